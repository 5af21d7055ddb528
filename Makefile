# make demo      a ternary model answers jobs over MQTT on this machine, from nothing, in one command
# make test      every test (CI runs exactly this)
# make test-install  of these, the packages, and a boot of real systemd with the package installed (as root)
# make release   the static, stripped binary in .build/static/release/sterna
# make deb       a Debian package for this architecture, in .build/packages
# make tarball   the same for other Linux systems, with install.sh
# make stick     all of it with the broker, to install on a machine without network, in .build/stick
# As root, missing Debian packages are installed; as anybody else you are told which.

BUILD_PACKAGES = libmosquitto-dev libsqlite3-dev
RUN_PACKAGES   = mosquitto mosquitto-clients
PACK_PACKAGES  = dpkg-dev lintian python3 binutils
BOOT_PACKAGES  = mmdebstrap debian-archive-keyring systemd-container
TEST_PACKAGES  = openssl gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static systemd python3-yaml python3-jsonschema python3-paho-mqtt
SWIFT_BUILD    = swift build -c release

.PHONY: demo test test-install build release deb tarball stick clean

build:
	@.ci/packages.sh $(BUILD_PACKAGES)
	$(SWIFT_BUILD) --product sterna

demo:
	@.ci/packages.sh $(BUILD_PACKAGES) $(RUN_PACKAGES)
	@$(SWIFT_BUILD) --product sterna
	@device-config/demo/demo.sh .build/release/sterna

test:
	@.ci/packages.sh $(BUILD_PACKAGES) $(RUN_PACKAGES) $(TEST_PACKAGES)
	$(SWIFT_BUILD) --build-tests
	timeout 1200 swift test -c release --skip-build --skip MemoryTests
	timeout 1200 swift test -c release --skip-build --filter MemoryTests
	@$(MAKE) --no-print-directory release
	@size=$$(stat -c %s .build/static/release/sterna); echo "static binary: $$size bytes"; \
	  [ $$size -lt 25000000 ] || { echo "the static binary must stay under 25,000,000 bytes: was full Foundation linked?" >&2; exit 1; }
	@$(MAKE) --no-print-directory test-install
	@Tests/Fuzz/run.sh all 60

test-install: deb tarball
	@Tests/package.sh .build/static/release/sterna .build/packages
	@[ $$(id -u) -ne 0 ] || .ci/packages.sh $(BOOT_PACKAGES)
	@Tests/systemd-boot.sh .build/packages/sterna_*.deb

release:
	@.ci/packages.sh $(BUILD_PACKAGES)
	$(SWIFT_BUILD) --product sterna --static-swift-stdlib --scratch-path .build/static -Xlinker --icf=safe
	strip --remove-section=.comment .build/static/release/sterna

deb tarball: release
	@.ci/packages.sh $(PACK_PACKAGES)
	@systemd/package.sh $@ .build/static/release/sterna .build/packages

stick: deb tarball
	@systemd/stick.sh .build/stick .build/packages/*_$$(dpkg --print-architecture).deb .build/packages/*-$$(dpkg --print-architecture).tar.gz

clean:
	rm -rf .build
