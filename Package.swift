// swift-tools-version:6.1
import PackageDescription

// One direction of imports: each target may depend only on those above it in this list.
let package = Package(
  name: "sterna",
  products: [.executable(name: "sterna", targets: ["sterna"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
  ],
  // Every module that a target imports is named, also where another one brings it: else it is not compiled again when that module changes.
  targets: [
    .target(name: "CTernary"),
    .systemLibrary(name: "CMosquitto", providers: [.apt(["libmosquitto-dev"])]),
    .systemLibrary(name: "CSQLite", providers: [.apt(["libsqlite3-dev"])]),

    .target(name: "Basics"),
    .target(name: "ModelFile", dependencies: ["Basics", "CTernary", .product(name: "Crypto", package: "swift-crypto")]),
    .target(name: "Tokenizer", dependencies: ["Basics", "ModelFile"]),
    .target(
      name: "Inference",
      dependencies: ["Basics", "CTernary", "ModelFile", "Tokenizer", .product(name: "Crypto", package: "swift-crypto")]),
    .target(name: "Decoding", dependencies: ["Basics", "Tokenizer", "Inference"]),
    .target(name: "Jobs", dependencies: ["Basics", "ModelFile", "Tokenizer", "Inference", "Decoding"]),
    .target(
      name: "Agent",
      dependencies: [
        "Basics", "ModelFile", "Jobs", "CMosquitto", "CSQLite", .product(name: "Logging", package: "swift-log"),
        .product(name: "Crypto", package: "swift-crypto"),
      ]),
    .executableTarget(
      name: "sterna",
      dependencies: ["Basics", "ModelFile", "Tokenizer", "Inference", "Decoding", "Jobs", "Agent", .product(name: "ArgumentParser", package: "swift-argument-parser")]),

    .target(name: "TestSupport", path: "Tests/TestSupport"),
    .testTarget(name: "BasicsTests", dependencies: ["Basics"]),
    .testTarget(name: "CTernaryTests", dependencies: ["CTernary", "TestSupport"]),
    .testTarget(name: "ModelFileTests", dependencies: ["Basics", "CTernary", "ModelFile", "TestSupport"]),
    .testTarget(name: "TokenizerTests", dependencies: ["Basics", "ModelFile", "Tokenizer", "TestSupport"]),
    .testTarget(name: "InferenceTests", dependencies: ["Basics", "CTernary", "ModelFile", "Inference", "TestSupport"]),
    .testTarget(name: "DecodingTests", dependencies: ["Basics", "Tokenizer", "Decoding", "TestSupport"]),
    .testTarget(name: "JobsTests", dependencies: ["Basics", "ModelFile", "Tokenizer", "Inference", "Decoding", "Jobs", "TestSupport"]),
    .executableTarget(name: "agent-test-helper", dependencies: ["Agent"], path: "Tests/AgentTestHelper"),
    .testTarget(name: "AgentTests", dependencies: ["Basics", "ModelFile", "Inference", "Decoding", "Jobs", "Agent", "CSQLite", "agent-test-helper", "sterna", "TestSupport"]),
    .testTarget(name: "CommandTests", dependencies: ["sterna"]),
  ],
  swiftLanguageModes: [.v6]
)

// Needs libFuzzer's runtime, which not every toolchain has: Tests/Fuzz/run.sh builds and runs it, in a folder of its own.
if Context.environment["STERNA_FUZZ"] != nil {
  package.targets.append(
    .executableTarget(
      name: "fuzz", dependencies: ["Agent", "Basics", "Decoding", "Inference", "Jobs", "ModelFile", "Tokenizer", .product(name: "Crypto", package: "swift-crypto")], path: "Tests/Fuzz",
      exclude: ["corpus", "run.sh"]))
}
