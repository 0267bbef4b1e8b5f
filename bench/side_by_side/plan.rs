//! The items measured in CPU time per unit of work, and their targets.

pub(crate) mod item;

use http::Method;

use self::item::{Item, Per, Port};
use crate::Result;
use crate::client::{Cipher, Client, Manner};
use crate::comparison::show_count;
use crate::load::{Load, Template};
use crate::site::Site;

/// The catalogues of the site, by their number of images.
pub(crate) const CATALOGUES: [usize; 3] = [1, SMALL, 5_000];
/// The catalogue that also has images besides the one to download.
pub(crate) const SMALL: usize = 100;
/// The size of an administrator's upload, in bytes.
const UPLOAD: u64 = 300_000_000;

/// Returns all items, in the order of the table.
pub(crate) fn items(site: &Site) -> Result<Vec<Item>> {
    let mut items = downloads(site)?;
    items.push(upload(site)?);
    items.extend(documents()?);
    items.extend(handshakes()?);
    Ok(items)
}

/// The items for which Incus is fast enough: its images, and its list with a handshake for each request.
pub(crate) const IN_FRONT_OF_INCUS: [(&str, &str); 3] = [
    ("download-h1-1", "incus-h1"),
    ("download-h2-1", "incus-h2"),
    ("images-1-new", "incus-new"),
];

/// Returns the items that are repeated in front of a real Incus.
pub(crate) fn in_front_of_incus(site: &Site) -> Result<Vec<Item>> {
    let item = |item: Item| {
        let (_, name) = IN_FRONT_OF_INCUS.into_iter().find(|(name, _)| *name == item.name)?;
        Some(item.in_front_of_incus(name))
    };
    Ok(items(site)?.into_iter().filter_map(item).collect())
}

fn downloads(site: &Site) -> Result<Vec<Item>> {
    let export = Template::get(&format!("/1.0/images/{}/export", site.fingerprint));
    let load = |manner, connections, streams| {
        Ok::<_, crate::Error>(Load {
            client: Client::new(manner)?,
            request: export.clone(),
            connections,
            streams,
            takes_turns: 1,
            anew: false,
        })
    };
    let h1 = Manner::default();
    let h2 = Manner { h2: true, ..h1 };
    let chacha = Manner {
        cipher: Cipher::ChaCha20,
        ..h1
    };
    let item = |name: &str, title: &str, load| Item::new(name, title, Per::Gigabyte, load);
    Ok(vec![
        item("download-h1-1", "download, HTTP/1.1", load(h1, 1, 1)?)
            .target(0.45)
            .with_guide(None)
            .with_floor(),
        item("download-h1-8", "eight downloads, HTTP/1.1", load(h1, 8, 1)?)
            .target(0.45)
            .with_floor()
            .again_on_both_cores(),
        item("download-h2-1", "download, HTTP/2", load(h2, 1, 1)?).target(0.50),
        item(
            "download-h2-8",
            "eight downloads in one connection, HTTP/2",
            load(h2, 1, 8)?,
        )
        .target(0.50)
        .again_on_both_cores(),
        item("download-chacha", "download in ChaCha20, HTTP/1.1", load(chacha, 1, 1)?),
    ])
}

/// Returns the downloads from a store or a cache, beside the same downloads through the gateway.
pub(crate) fn stored(site: &Site) -> Result<Vec<Item>> {
    let wanted = [
        ("download-h1-1", "stored-h1-1"),
        ("download-h1-8", "stored-h1-8"),
        ("download-h2-1", "stored-h2-1"),
    ];
    let item = |item: Item| {
        let (_, name) = wanted.into_iter().find(|(name, _)| *name == item.name)?;
        Some(item.stored(name))
    };
    Ok(downloads(site)?.into_iter().filter_map(item).collect())
}

fn upload(site: &Site) -> Result<Item> {
    let client = Client::new(Manner {
        presenting: Some(&site.ops),
        ..Manner::default()
    })?;
    let request = Template {
        method: Method::PUT,
        upload: UPLOAD,
        ..Template::get("/1.0/uploads/image")
    };
    let load = Load {
        client,
        request,
        connections: 1,
        streams: 1,
        takes_turns: 1,
        anew: false,
    };
    let mut item = Item::new("upload", "upload of 300 MB by an admin, HTTP/1.1", Per::Gigabyte, load)
        .target(0.50)
        .again_on_both_cores();
    item.port = Port::Admin;
    Ok(item)
}

fn documents() -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let server = Template::get("/1.0");
    for (speech, title) in Speech::ALL {
        let load = speech.load(&server)?;
        let item = Item::new(
            format!("server-{}", speech.name()),
            format!("/1.0, {title}"),
            Per::Request,
            load,
        );
        items.push(
            item.target(speech.target())
                .with_guide(speech.target_against_guide())
                .again_on_both_cores(),
        );
    }
    for images in CATALOGUES {
        let list = Template::get("/1.0/images?recursion=1");
        let plural = if images == 1 { "" } else { "s" };
        for (speech, title) in Speech::ALL {
            let load = speech.load(&list)?;
            let name = format!("images-{images}-{}", speech.name());
            let item = Item::new(
                name,
                format!("list of {} image{plural}, {title}", show_count(images)),
                Per::Request,
                load,
            );
            items.push(item.of(images).target(speech.target()));
        }
    }
    let list = Template {
        gzip: true,
        ..Template::get("/1.0/images?recursion=1")
    };
    let load = Speech::Anew.load(&list)?;
    let title = "list of 5,000 images in gzip, a connection each";
    items.push(Item::new("images-5000-gzip", title, Per::Request, load).of(5_000));
    Ok(items)
}

fn handshakes() -> Result<Vec<Item>> {
    let load = |manner| {
        Ok::<_, crate::Error>(Load {
            client: Client::new(manner)?,
            ..Speech::Anew.load(&Template::get("/1.0/images?recursion=1"))?
        })
    };
    let resumed = Manner {
        resuming: true,
        ..Manner::default()
    };
    let post_quantum = Manner {
        post_quantum: true,
        ..Manner::default()
    };
    Ok(vec![
        Item::new(
            "handshake-resumed",
            "list of 1 image, a connection each, resumed",
            Per::Request,
            load(resumed)?,
        ),
        Item::new(
            "handshake-post-quantum",
            "list of 1 image, a connection each, X25519MLKEM768",
            Per::Request,
            load(post_quantum)?,
        ),
    ])
}

/// The protocol of the requests for small responses.
#[derive(Clone, Copy, Debug)]
enum Speech {
    /// A new connection for each request, as with Incus's clients.
    Anew,
    Http1,
    Http2,
}

impl Speech {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Http1, "HTTP/1.1"),
        (Self::Http2, "HTTP/2"),
        (Self::Anew, "a connection each"),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Anew => "new",
            Self::Http1 => "h1",
            Self::Http2 => "h2",
        }
    }

    fn target(self) -> f64 {
        match self {
            Self::Anew => 0.42,
            Self::Http1 | Self::Http2 => 0.40,
        }
    }

    /// Returns the target against the guide's Nginx; `None` where the handshake is most of the work.
    fn target_against_guide(self) -> Option<f64> {
        match self {
            Self::Anew => None,
            Self::Http1 | Self::Http2 => Some(0.05),
        }
    }

    fn load(self, request: &Template) -> Result<Load> {
        let (connections, streams) = match self {
            Self::Anew => (8, 1),
            Self::Http1 => (16, 1),
            Self::Http2 => (4, 8),
        };
        Ok(Load {
            client: Client::new(Manner {
                h2: matches!(self, Self::Http2),
                ..Manner::default()
            })?,
            request: request.clone(),
            connections,
            streams,
            takes_turns: 1,
            anew: matches!(self, Self::Anew),
        })
    }
}
