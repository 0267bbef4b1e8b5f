//! Random products, the same for the same seed.

use simplestreams::{Ftype, Item, Product, Products, Requirements, Version};

/// Returns products whose images share names, groups and dates often.
pub(super) fn random_products(seed: u64) -> Products {
    let mut random = Random(seed);
    let mut products = Products::new();
    for number in 0..1 + random.below(8) {
        let mut product = Product {
            architecture: random.of(&["amd64", "x86_64", "arm64", "i686", "z80"]),
            os: random.of(&["debian", "alpine", "Zed"]),
            release: random.of(&["bookworm", "trixie", "3.20", "3.21", "sid"]),
            release_title: random.of(&["", "Title"]),
            version: random.some(&["12", "13"]),
            variant: (random.below(8) != 0).then(|| random.of(&["default", "cloud"])),
            requirements: random.requirements(),
            lxd_requirements: random.requirements(),
            end_of_life: random.some(&["2030-01-01", "soon"]),
            ..Product::default()
        };
        for _ in 0..random.below(3) {
            product
                .aliases
                .push(random.of(&["a", "b", "a/amd64", "a/arm64", "b/default", " c"]));
        }
        for _ in 0..1 + random.below(3) {
            let key: String = random.of(&[
                "20240101_0000",
                "20240101_2330",
                "20231231",
                "20240229-2",
                "2024010",
                "v1.0.0-and-more",
            ]);
            let mut version = Version {
                label: random.some(&["beta"]),
                ..Version::default()
            };
            for nth in 0..2 + random.below(5) {
                let ftype = random.ftype();
                let mut item = Item {
                    path: format!("images/{nth}.x"),
                    sha256: Some(random.hash()),
                    size: Some(random.below(1 << 40)),
                    ..Item::default()
                };
                for root in Ftype::KNOWN.iter().filter(|ftype| ftype.is_root()) {
                    if random.below(3) != 0 {
                        item.combined.set_fingerprint(root, random.hash());
                    }
                }
                item.ftype = ftype;
                version.items.insert(format!("i{nth}"), item);
            }
            product.versions.insert(key, version);
        }
        products.products.insert(format!("p{number}"), product);
    }
    products
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn of(&mut self, texts: &[&str]) -> String {
        texts[self.below(texts.len() as u64) as usize].to_owned()
    }

    fn some(&mut self, texts: &[&str]) -> Option<String> {
        (self.below(2) == 0).then(|| self.of(texts))
    }

    fn hash(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.next())).collect()
    }

    fn ftype(&mut self) -> Ftype {
        // Mostly metadata and a root, so that images come out.
        let names = [
            "incus.tar.xz",
            "lxd.tar.xz",
            "squashfs",
            "squashfs",
            "root.tar.xz",
            "disk-kvm.img",
            "disk1.img",
        ];
        let rare = [
            "uefi1.img",
            "incus_combined.tar.gz",
            "lxd_combined.tar.gz",
            "squashfs.vcdiff",
            "manifest",
        ];
        let names = if self.below(5) == 0 { &rare[..] } else { &names };
        Ftype::from(self.of(names))
    }

    fn requirements(&mut self) -> Option<Requirements> {
        let value = self.of(&["true", "false"]);
        match self.below(3) {
            0 => None,
            1 => Some(Requirements::new()),
            _ => Some([("secureboot".to_owned(), value)].into_iter().collect()),
        }
    }
}
