# `make` lists the targets.

PREFIX ?= /usr/local
CARGO ?= cargo
BINARY := target/release/incus-gate
MINUTES ?= 60
SECONDS ?= 30
# Packages for the demo and the tests, besides Incus itself. LINKER is what Rust needs to link.
TOOLS := busybox-static curl iproute2 nginx openssl squashfs-tools systemd valgrind xz-utils zstd
# For the tests of the web page.
BROWSER := chromium chromium-driver fonts-dejavu-core
# LXD's client, for the tests of simplestreams.
LXD := lxd-client
# For the tests that run the documentation's commands.
DOCUMENTED := ca-certificates certbot haproxy make nginx pebble procps yq
LINKER := $(if $(shell command -v cc),,gcc libc6-dev)

.PHONY: help build demo demo-end test fuzz bench siege soak fresh deny install dist reproduce dist-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

build: ## build the release binary, target/release/incus-gate
	@command -v $(CARGO) > /dev/null || { echo "make build: found no cargo; install Rust from https://rustup.rs" >&2; exit 1; }
	@command -v cc > /dev/null || { echo "make build: found no C compiler; run as root: apt-get install -y gcc libc6-dev" >&2; exit 1; }
	$(CARGO) build --release --locked

demo: ## demonstrate both ports in front of a throw-away Incus, as root; KEEP=1 leaves it running
	@[ "$$(id -u)" = 0 ] || { echo "make demo: only root can start an Incus; run: make build && sudo scripts/demo$(if $(KEEP), --keep)" >&2; exit 1; }
	@scripts/install-incus $(TOOLS) $(LINKER)
	@$(MAKE) --no-print-directory build
	@scripts/demo $(if $(KEEP),--keep)

demo-end: ## stop the demos that KEEP=1 left running
	@scripts/demo --end

test: ## install the test tools, then check formatting and lints and run all tests, as root
	@[ "$$(id -u)" = 0 ] || { echo 'make test: only root can start an Incus; run: sudo env "HOME=$$HOME" "PATH=$$PATH" make test' >&2; exit 1; }
	scripts/install-incus $(TOOLS) $(BROWSER) $(DOCUMENTED) $(LXD) sslscan testssl.sh libfaketime nftables $(LINKER)
	scripts/unpack-lxd
	$(CARGO) fmt --version > /dev/null 2>&1 || rustup component add rustfmt
	$(CARGO) clippy --version > /dev/null 2>&1 || rustup component add clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/deny --where-reachable
	scripts/test
	$(CARGO) test --locked --doc --workspace --exclude bench --exclude testing

fresh: ## run `demo` and `test` from a clean clone on fresh Debians, RELEASES (bookworm and trixie), as root
	@[ "$$(id -u)" = 0 ] || { echo 'make fresh: only root can change the root file system; run: sudo env "HOME=$$HOME" "PATH=$$PATH" make fresh' >&2; exit 1; }
	@scripts/fresh $(RELEASES)

fuzz: ## search for inputs that violate a property: RUNS (10 million) inputs for each of TARGETS (all)
	@command -v cargo-fuzz > /dev/null || { echo "make fuzz: found no cargo-fuzz; run: $(CARGO) install --locked cargo-fuzz" >&2; exit 1; }
	@scripts/fuzz $(TARGETS)

bench: build ## measure the gateway and Nginx side by side, on an idle machine, as root; ALL=1 adds HAProxy and Caddy
	@[ "$$(id -u)" = 0 ] || { echo 'make bench: only root can start an Incus; run: sudo env "HOME=$$HOME" "PATH=$$PATH" make bench' >&2; exit 1; }
	@scripts/install-incus iproute2 nginx $(if $(ALL),haproxy caddy)
	$(CARGO) bench --locked --package bench --bench side_by_side -- $(if $(ALL),--all)

siege: build ## run every known attack for SECONDS each, and measure its effect on other clients
	@command -v openssl > /dev/null || { echo "make siege: found no openssl; run as root: apt-get install -y openssl" >&2; exit 1; }
	$(CARGO) bench --locked --package bench --profile dev --bench siege -- --gateway $(CURDIR)/$(BINARY) --seconds $(SECONDS)

soak: build ## run mixed clients for MINUTES (60) with random faults, as root
	@[ "$$(id -u)" = 0 ] || { echo 'make soak: only root can start an Incus; run: sudo env "HOME=$$HOME" "PATH=$$PATH" make soak' >&2; exit 1; }
	@scripts/install-incus busybox-static curl iproute2 nftables
	$(CARGO) bench --locked --package bench --profile dev --bench soak -- --gateway $(CURDIR)/$(BINARY) --minutes $(MINUTES) --chart

deny: ## check the dependencies against deny.toml: licences, duplicates, sources, known vulnerabilities
	scripts/deny

install: ## install the release under PREFIX (/usr/local); packages set DESTDIR
	@[ -x $(BINARY) ] || { echo "make install: $(BINARY) does not exist; run first: make build" >&2; exit 1; }
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/incus-gate
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/incus-gate LICENSE README.md CHANGELOG.md proxy.toml.example
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/incus-gate/docs docs/*.md docs/*.png docs/*.svg docs/alerts.yml docs/grafana.json
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system systemd/incus-gate.service systemd/incus-gate.socket
	sed -i 's|/usr/local/|$(PREFIX)/|g' $(DESTDIR)$(PREFIX)/lib/systemd/system/incus-gate.service
	install -D -m 644 systemd/incus-gate.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/incus-gate.conf

dist: ## build the .deb, the tarball and their checksums in target/dist
	@command -v $(CARGO) > /dev/null || { echo "make dist: found no cargo; install Rust from https://rustup.rs" >&2; exit 1; }
	@scripts/dist

reproduce: ## build the packages twice, in two folders, and compare them byte for byte
	scripts/reproduce

dist-test: ## install, upgrade, remove and purge the .deb on a fresh Debian, as root
	@[ "$$(id -u)" = 0 ] || { echo "make dist-test: only root can change the root file system; run: sudo make dist-test" >&2; exit 1; }
	@scripts/try-deb target/dist/*.deb

clean: ## remove build output
	$(CARGO) clean
