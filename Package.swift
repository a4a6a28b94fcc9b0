// swift-tools-version: 6.2
import PackageDescription

// The kernels are optimized in debug builds too: every test would otherwise wait for them.
// No fast-math: results must be the same bits at any thread count and honour NaN and infinity.
let kernelFlags: [CSetting] = [
  .unsafeFlags(["-O3", "-fno-math-errno", "-ffp-contract=off", "-fno-plt", "-Wall", "-Wextra", "-Werror=implicit"])
]
let strict: [SwiftSetting] = [.swiftLanguageMode(.v6)]
// Run-time exclusivity checks were a quarter of the time of a small operation (perf, `apus bench op_overhead_grad`).
// Debug builds, and so the tests, keep them.
let core: [SwiftSetting] = strict + [.unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))]

let package = Package(
  name: "Apus",
  platforms: [.macOS(.v15)],
  products: [
    .library(name: "Apus", targets: ["Apus"]),
    .library(name: "ApusServing", targets: ["ApusServing"]),
    .executable(name: "apus", targets: ["apus"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    // The pages of `apus board` and the servers of `apus serve`; no core target depends on what follows.
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.20.0", traits: []),
    .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.81.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.31.0"),
    .package(url: "https://github.com/apple/swift-nio-http2", from: "1.35.0"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.27.0"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.4.0", traits: []),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.31.0", traits: []),
    .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.2.0"),
    .package(url: "https://github.com/grpc/grpc-swift-nio-transport", from: "2.4.0"),
    .package(url: "https://github.com/grpc/grpc-swift-protobuf", from: "2.2.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.6.0"),
  ],
  targets: [
    .target(name: "CApusKernels", path: "Sources/Kernels", cSettings: kernelFlags),
    .target(name: "ApusIR", path: "Sources/IR", swiftSettings: core),
    .target(name: "ApusCPU", dependencies: ["ApusIR", "CApusKernels"], path: "Sources/CPU", swiftSettings: core),
    .target(
      name: "ApusTensor", dependencies: ["ApusIR", "ApusCPU", "CApusKernels"], path: "Sources/Tensor", swiftSettings: core),
    .target(name: "ApusFormats", dependencies: ["ApusTensor", "CApusKernels"], path: "Sources/Formats", swiftSettings: strict),
    .target(name: "ApusNN", dependencies: ["ApusTensor", "ApusFormats"], path: "Sources/NN", swiftSettings: core),
    .target(name: "ApusData", dependencies: ["ApusTensor", "ApusFormats"], path: "Sources/Data", swiftSettings: strict),
    .target(
      name: "ApusText", dependencies: ["ApusTensor", "ApusFormats", "ApusNN"], path: "Sources/Text", swiftSettings: strict),
    .target(name: "ApusModels", dependencies: ["ApusTensor", "ApusNN"], path: "Sources/Models", swiftSettings: strict),
    .target(
      name: "ApusExport", dependencies: ["ApusTensor", "ApusCPU", "ApusFormats", "ApusNN"], path: "Sources/Export",
      swiftSettings: strict),
    .target(
      name: "ApusTraining", dependencies: ["ApusTensor", "ApusCPU", "CApusKernels", "ApusFormats", "ApusNN", "ApusData"],
      path: "Sources/Training",
      swiftSettings: strict),
    .target(
      name: "Apus",
      dependencies: [
        "ApusTensor", "ApusNN", "ApusText", "ApusModels", "ApusData", "ApusTraining", "ApusFormats", "ApusExport",
      ],
      path: "Sources/Apus", swiftSettings: strict),
    // What the pages of the board and of the server share.
    .target(
      name: "ApusPages", dependencies: [.product(name: "Hummingbird", package: "hummingbird")], path: "Sources/Pages",
      resources: [.embedInCode("Shared")], swiftSettings: strict),
    .target(
      name: "ApusBoard",
      dependencies: [
        "ApusFormats", "ApusCPU", "ApusPages", .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Sources/Board", resources: [.embedInCode("Page")], swiftSettings: strict),
    // Models that are served: formats, versions, batches. No network.
    .target(
      name: "ApusServables", dependencies: ["ApusTensor", "ApusCPU", "CApusKernels", "ApusFormats", "ApusExport"],
      path: "Sources/Servables", swiftSettings: strict),
    // What Scripts/serving-protocols.py generates.
    .target(
      name: "ApusServingProtocols",
      dependencies: [
        .product(name: "SwiftProtobuf", package: "swift-protobuf"), .product(name: "GRPCCore", package: "grpc-swift-2"),
        .product(name: "GRPCProtobuf", package: "grpc-swift-protobuf"),
      ],
      path: "Sources/ServingProtocols", swiftSettings: [.swiftLanguageMode(.v6)]),
    .target(
      name: "ApusServing",
      dependencies: [
        "ApusServables", "ApusServingProtocols", "ApusPages", "ApusFormats", "ApusExport", "ApusIR", "ApusTensor", "ApusCPU",
        .product(name: "Hummingbird", package: "hummingbird"), .product(name: "HummingbirdHTTP2", package: "hummingbird"),
        .product(name: "HummingbirdTLS", package: "hummingbird"), .product(name: "Logging", package: "swift-log"),
        .product(name: "HummingbirdCore", package: "hummingbird"), .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "NIOTLS", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"), .product(name: "NIOHTTP2", package: "swift-nio-http2"),
        .product(name: "NIOHPACK", package: "swift-nio-http2"), .product(name: "NIOExtras", package: "swift-nio-extras"),
        .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
        .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
        .product(name: "SwiftProtobuf", package: "swift-protobuf"), .product(name: "GRPCCore", package: "grpc-swift-2"),
        .product(name: "GRPCProtobuf", package: "grpc-swift-protobuf"),
        .product(name: "GRPCNIOTransportHTTP2", package: "grpc-swift-nio-transport"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      path: "Sources/Serving", resources: [.embedInCode("Page")], swiftSettings: strict),
    .executableTarget(
      name: "apus",
      dependencies: [
        "Apus", "ApusBoard", "ApusServing", "ApusServables", "ApusIR", "CApusKernels", "ApusCPU", "ApusTensor",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Sources/CLI", swiftSettings: strict),
    .testTarget(name: "KernelsTests", dependencies: ["CApusKernels"], exclude: ["optimizers.py"], swiftSettings: strict),
    .testTarget(name: "IRTests", dependencies: ["ApusIR"], swiftSettings: strict),
    .testTarget(name: "PlanTests", dependencies: ["ApusIR", "ApusCPU", "CApusKernels"], swiftSettings: strict),
    .testTarget(
      name: "TensorTests", dependencies: ["ApusTensor", "ApusCPU", "CApusKernels"],
      exclude: ["Fixtures", "StableHLO/check_stablehlo.py", "StableHLO/make_jax.py", "StableHLO/JAX"], swiftSettings: strict),
    .testTarget(name: "FormatsTests", dependencies: ["ApusFormats"], exclude: ["Fixtures"], swiftSettings: strict),
    .testTarget(
      name: "NNTests", dependencies: ["ApusNN", "ApusTensor", "ApusFormats"], exclude: ["Fixtures"], swiftSettings: strict),
    .testTarget(
      name: "TextTests", dependencies: ["ApusText", "ApusNN", "ApusTensor", "ApusFormats"], exclude: ["Fixtures"],
      swiftSettings: strict),
    .testTarget(
      name: "ModelsTests", dependencies: ["ApusModels", "ApusNN", "ApusTensor", "ApusFormats", "CApusKernels"],
      exclude: ["Fixtures"],
      swiftSettings: strict),
    .testTarget(
      name: "ExportTests", dependencies: ["Apus", "ApusExport", "ApusCPU", "ApusFormats"],
      swiftSettings: strict),
    // What a test of TrainingTests starts and kills.
    .executableTarget(
      name: "TrainingProgram", dependencies: ["ApusTraining", "ApusNN", "ApusTensor", "ApusData", "ApusFormats"],
      path: "Tests/TrainingProgram", swiftSettings: strict),
    .testTarget(
      name: "TrainingTests",
      dependencies: ["TrainingProgram", "ApusTraining", "ApusNN", "ApusTensor", "ApusData", "ApusFormats"],
      exclude: ["Fixtures"], swiftSettings: strict),
    .testTarget(name: "DataTests", dependencies: ["ApusData", "ApusFormats"], swiftSettings: strict),
    .testTarget(
      name: "ConcurrencyTests", dependencies: ["Apus", "ApusTensor", "CApusKernels"], swiftSettings: strict),
    .testTarget(name: "BoardTests", dependencies: ["ApusBoard", "ApusFormats", "ApusTensor"], swiftSettings: strict),
    .testTarget(
      name: "ServablesTests", dependencies: ["ApusServables", "Apus", "ApusCPU", "ApusFormats"], swiftSettings: strict),
    .testTarget(
      name: "ServingTests",
      dependencies: [
        "ApusServing", "ApusServables", "ApusServingProtocols", "Apus", "ApusFormats",
        .product(name: "HummingbirdTesting", package: "hummingbird"),
        .product(name: "GRPCNIOTransportHTTP2", package: "grpc-swift-nio-transport"),
      ],
      swiftSettings: strict),
    .testTarget(name: "CLITests", dependencies: ["Apus", "apus"], swiftSettings: strict),
  ]
)

// `APUS_TESTS=NNTests,TensorTests swift test` builds these test targets only, with what they need; `threads` stands for those that
// `make test-threads` builds anew under the thread sanitizer.
if let value = Context.environment["APUS_TESTS"] {
  let names = value == "threads" ? ["ConcurrencyTests"] : value.split(separator: ",").map(String.init)
  package.targets.removeAll { $0.type == .test && !names.contains($0.name) }
  if !names.contains("CLITests") {
    package.products = []
    package.targets.removeAll { $0.type == .executable && !($0.name == "TrainingProgram" && names.contains("TrainingTests")) }
    let needsServers = names.contains("BoardTests") || names.contains("ServingTests")
    package.dependencies.removeAll { _ in !needsServers }
    package.targets.removeAll {
      !needsServers && ["ApusBoard", "ApusPages", "ApusServing", "ApusServingProtocols"].contains($0.name)
    }
  }
  for target in package.targets where target.name == "ApusTensor" && value == "threads" {
    target.swiftSettings?.append(.define("APUS_SANITIZE_THREAD"))  // see Sources/Tensor/Lock.swift
  }
}
