# `make` says what there is.

PREFIX ?= /usr/local
CARGO ?= cargo
BINARY := target/release/incus-gate
MINUTES ?= 60
SECONDS ?= 30
# What the demo and the tests use, besides Incus itself; and what Rust needs to link with.
TOOLS := busybox-static curl iproute2 nginx openssl squashfs-tools systemd valgrind xz-utils
# In which the tests look at the page for people.
BROWSER := chromium chromium-driver fonts-dejavu-core
# With which the tests try what the documentation says.
DOCUMENTED := ca-certificates certbot haproxy make nginx pebble procps yq
LINKER := $(if $(shell command -v cc),,gcc libc6-dev)

.PHONY: help build demo demo-end test fuzz bench siege soak fresh deny install dist reproduce dist-test clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

build: ## build the release, target/release/incus-gate
	@command -v $(CARGO) > /dev/null || { echo "make build: found no cargo; install Rust from https://rustup.rs" >&2; exit 1; }
	@command -v cc > /dev/null || { echo "make build: found no C compiler; run as root: apt-get install -y gcc libc6-dev" >&2; exit 1; }
	$(CARGO) build --release --locked

demo: ## show both ports in front of a throw-away Incus, as root; with KEEP=1 it stays up
	@[ "$$(id -u)" = 0 ] || { echo "make demo: only root can start an Incus; run: make build && sudo scripts/demo$(if $(KEEP), --keep)" >&2; exit 1; }
	@scripts/install-incus $(TOOLS) $(LINKER)
	@$(MAKE) --no-print-directory build
	@scripts/demo $(if $(KEEP),--keep)

demo-end: ## end the demos that KEEP=1 left up
	@scripts/demo --end

test: ## install what tests need, then formatting, lints and all tests, as root
	@[ "$$(id -u)" = 0 ] || { echo 'make test: only root can start an Incus; run: sudo env "HOME=$$HOME" "PATH=$$PATH" make test' >&2; exit 1; }
	scripts/install-incus $(TOOLS) $(BROWSER) $(DOCUMENTED) sslscan testssl.sh libfaketime nftables $(LINKER)
	$(CARGO) fmt --version > /dev/null 2>&1 || rustup component add rustfmt
	$(CARGO) clippy --version > /dev/null 2>&1 || rustup component add clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/deny --where-reachable
	scripts/test

fresh: ## run demo and test from a clean clone on new Debians, RELEASES (bookworm and trixie), as root
	@[ "$$(id -u)" = 0 ] || { echo 'make fresh: only root can enter another root; run: sudo env "HOME=$$HOME" "PATH=$$PATH" make fresh' >&2; exit 1; }
	@scripts/fresh $(RELEASES)

fuzz: ## look for inputs that break what always holds: RUNS (10 million) for each TARGETS (all of them)
	@command -v cargo-fuzz > /dev/null || { echo "make fuzz: found no cargo-fuzz; run: $(CARGO) install --locked cargo-fuzz" >&2; exit 1; }
	@scripts/fuzz $(TARGETS)

bench: build ## measure the gateway and Nginx side by side, on a machine with nothing else to do; with ALL=1 HAProxy and Caddy too
	@[ "$$(id -u)" = 0 ] || { echo 'make bench: only root can start an Incus; run: sudo env "HOME=$$HOME" "PATH=$$PATH" make bench' >&2; exit 1; }
	@scripts/install-incus iproute2 nginx $(if $(ALL),haproxy caddy)
	$(CARGO) bench --locked --package bench --bench side_by_side -- $(if $(ALL),--all)

siege: build ## attack the gateway in every known way for SECONDS each, and measure what others notice
	@command -v openssl > /dev/null || { echo "make siege: found no openssl; run as root: apt-get install -y openssl" >&2; exit 1; }
	$(CARGO) bench --locked --package bench --profile dev --bench siege -- --gateway $(CURDIR)/$(BINARY) --seconds $(SECONDS)

soak: build ## have mixed clients use the gateway for an hour, or for MINUTES, while things go wrong at random
	@[ "$$(id -u)" = 0 ] || { echo 'make soak: only root can start an Incus; run: sudo env "HOME=$$HOME" "PATH=$$PATH" make soak' >&2; exit 1; }
	@scripts/install-incus busybox-static curl iproute2 nftables
	$(CARGO) bench --locked --package bench --profile dev --bench soak -- --gateway $(CURDIR)/$(BINARY) --minutes $(MINUTES) --chart

deny: ## hold the dependencies against deny.toml: licences, duplicates, sources, known vulnerabilities
	scripts/deny

install: ## put the release under PREFIX (/usr/local), or under DESTDIR for a package
	@[ -x $(BINARY) ] || { echo "make install: there is no $(BINARY) yet; run first: make build" >&2; exit 1; }
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/incus-gate
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/incus-gate LICENSE README.md CHANGELOG.md proxy.toml.example
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/incus-gate/docs docs/*.md docs/*.png docs/*.svg docs/alerts.yml docs/grafana.json
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system systemd/incus-gate.service systemd/incus-gate.socket
	sed -i 's|/usr/local/|$(PREFIX)/|g' $(DESTDIR)$(PREFIX)/lib/systemd/system/incus-gate.service
	install -D -m 644 systemd/incus-gate.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/incus-gate.conf

dist: ## make the .deb, the tarball and their checksums, in target/dist
	@command -v $(CARGO) > /dev/null || { echo "make dist: found no cargo; install Rust from https://rustup.rs" >&2; exit 1; }
	@scripts/dist

reproduce: ## make the packages twice, in two places, and compare them byte for byte
	scripts/reproduce

dist-test: ## install, upgrade, remove and purge the .deb in a fresh Debian, as root
	@[ "$$(id -u)" = 0 ] || { echo "make dist-test: only root can enter another root; run: sudo make dist-test" >&2; exit 1; }
	@scripts/try-deb target/dist/*.deb

clean: ## remove what was built
	$(CARGO) clean
