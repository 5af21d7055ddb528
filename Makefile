# make demo      a ternary model answers jobs over MQTT on this machine, from nothing, in one command
# make test      every test (CI runs exactly this)
# make release   the static, stripped binary in .build/static/release/sterna
# As root, missing Debian packages are installed; as anybody else you are told which.

BUILD_PACKAGES = libmosquitto-dev libsqlite3-dev
RUN_PACKAGES   = mosquitto mosquitto-clients
TEST_PACKAGES  = openssl gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static systemd
SWIFT_BUILD    = swift build -c release

.PHONY: demo test build release clean

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

release:
	@.ci/packages.sh $(BUILD_PACKAGES)
	$(SWIFT_BUILD) --product sterna --static-swift-stdlib --scratch-path .build/static
	strip .build/static/release/sterna

clean:
	rm -rf .build
