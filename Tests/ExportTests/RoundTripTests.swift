import Apus
import Foundation
import Testing

@Suite struct RoundTripTests {
  @Test func aLayerWithAnOpenBatch() throws {
    try withTemporaryFolder { folder in
      let model = smallNet()
      try export(model, input: ["image": .float32(["batch", 1, 8, 8])], to: folder + "/net.apus")
      #expect(model.isTraining, "the mode is as it was")
      let loaded = try load(folder + "/net.apus")
      #expect(
        loaded.signatures["serve"]?.description == "(image: float32[batch, 1, 8, 8]) → (output: float32[batch, 10])")
      #expect(Set(loaded.weights.entries.map(\.name)).isSuperset(of: ["conv.weight", "bn.running_mean", "head.bias"]))
      model.eval()
      let compiled = compile { (x: Tensor) -> Tensor in model(x) }
      for n in [1, 2, 5, 6, 7, 33] {
        let x = Tensor.randn([n, 1, 8, 8], generator: Generator(seed: 9))
        let y = try loaded.run(["image": x])["output"]
        expectSame(y, withoutGradient { compiled(x) }, "batch \(n)")
      }
      let text = try String(contentsOfFile: folder + "/net.apus/program.mlir", encoding: .utf8)
      #expect(text.contains("func.func public @serve_batch5(") && text.contains("apus.weight = \"conv.weight\""))
    }
  }

  @Test func withoutOpenDimensions() throws {
    try withTemporaryFolder { folder in
      let model = smallNet()
      try export(model, input: ["image": .float32([2, 1, 8, 8])], to: folder + "/net.apus")
      let loaded = try load(folder + "/net.apus")
      let x = Tensor.randn([2, 1, 8, 8], generator: Generator(seed: 9))
      let compiled = compile { (x: Tensor) -> Tensor in model.evaluating { model(x) } }
      expectSame(try loaded.run(["image": x])["output"], compiled(x))
    }
  }

  @Test func twoOpenDimensionsAndSeveralSignatures() throws {
    try withTemporaryFolder { folder in
      seed(1)
      let bert = BERT(.init(vocabulary: 50, positions: 32, dim: 16, heads: 2, layers: 2))
      let ids: TensorSpec = .int64(["batch", .open("sequence", 1...32)])
      try export(
        bert,
        signatures: [
          "encode": Exported(inputs: ["ids": ids]) { ["states": bert($0["ids"]!)] },
          "pool": Exported(inputs: ["ids": ids, "segments": ids]) {
            let states = bert($0["ids"]!, segments: $0["segments"]!)
            return ["mean": states.mean(axis: 1), "first": states[0..., 0], "last": states[0..., -1]]
          },
          "embed": Exported(inputs: ["ids": .int64([1, 4])]) { ["states": bert($0["ids"]!)] },
        ], to: folder + "/bert.apus")
      let loaded = try load(folder + "/bert.apus")
      #expect(loaded.signatures.keys.sorted() == ["embed", "encode", "pool"])
      #expect(loaded.signatures["pool"]?.openDimensions.map(\.name) == ["batch", "sequence"])
      // Each weight once.
      #expect(Set(loaded.weights.entries.map(\.name)) == Set(bert.namedVariables.map(\.name)))
      bert.eval()
      let encode = compile { (x: Tensor) -> Tensor in bert(x) }
      let pool = compile { (x: Tensor, s: Tensor) -> [Tensor] in
        let states = bert(x, segments: s)
        return [states.mean(axis: 1), states[0..., 0], states[0..., -1]]
      }
      for (n, m) in [(1, 1), (5, 11), (7, 13), (1, 32), (3, 2), (9, 20)] {
        let x = Tensor.integers(0..<50, [n, m], generator: Generator(seed: 2))
        let s = Tensor.integers(0..<2, [n, m], generator: Generator(seed: 3))
        try withoutGradient {
          expectSame(try loaded.run(["ids": x], signature: "encode")["states"], encode(x), "\(n) × \(m)")
          let pooled = try loaded.run(["ids": x, "segments": s], signature: "pool")
          for (name, expected) in zip(["mean", "first", "last"], pool(x, s)) { expectSame(pooled[name], expected, "\(n) × \(m)") }
        }
      }
      let wrong = #expect(throws: ProgramError.self) {
        try loaded.run(["ids": Tensor.zeros([1, 33], .int64)], signature: "encode")
      }
      #expect("\(wrong!)".contains("sequence is 33"))
    }
  }

  @Test func aDecodersCacheGoesInAndOut() throws {
    try withTemporaryFolder { folder in
      seed(2)
      let model = GPT2(.init(vocabulary: 40, positions: 16, dim: 16, heads: 2, layers: 2))
      let start = model.makeCache(batch: 1, length: 16)
      let cache = start.enumerated().map { Variable($1, name: "cache.\($0)") }
      let inputs: KeyValuePairs<String, TensorSpec> = ["token": .int64([1, 1]), "position": .int64([])]
      let decode = { (tensors: [String: Tensor]) -> [String: Tensor] in
        let (token, next) = model.decode(tensors["token"]!, position: tensors["position"]!, cache: cache.map(\.value))
        for (variable, tensor) in zip(cache, next) { variable.value = tensor }
        return ["next": token]
      }
      let refused = #expect(throws: ExportError.self) {
        try export(model, signatures: ["decode": Exported(inputs: inputs, decode)], to: folder + "/gpt.apus")
      }
      #expect(refused == .writesVariables(signature: "decode", names: ["cache.0", "cache.1"]))
      #expect(!FileManager.default.fileExists(atPath: folder + "/gpt.apus"))
      try export(
        model, signatures: ["decode": Exported(inputs: inputs, states: .inputsAndOutputs, decode)], to: folder + "/gpt.apus")
      let loaded = try load(folder + "/gpt.apus")
      #expect(loaded.signatures["decode"]?.states == ["cache.0", "cache.1"])
      var state = Dictionary(uniqueKeysWithValues: zip(["cache.0", "cache.1"], start))
      var token = Tensor([3] as [Int64], shape: [1, 1])
      var (expected, caches) = (token, start)
      for position in 0..<8 {
        let results = try loaded.run(state.merging(["token": token, "position": Tensor(position)]) { $1 })
        token = results["next"]!
        for name in state.keys { state[name] = results[name] }
        (expected, caches) = withoutGradient { model.decode(expected, position: Tensor(position), cache: caches) }
        #expect(token.elements(as: Int.self) == expected.elements(as: Int.self), "position \(position)")
      }
    }
  }

  @Test func loopsAndConstants() throws {
    try withTemporaryFolder { folder in
      let table = Tensor.randn([100, 3], generator: Generator(seed: 1))
      let unnamed = Parameter(Tensor.randn([3], generator: Generator(seed: 2)))
      let f = { (x: Tensor) -> Tensor in
        let picked = table[x] * unnamed.value + Tensor([1, 2, 3])
        return whileLoop(picked, while: { $0.sum() .< 1000 }, do: { $0 * 2 + 1 })
      }
      try export(signatures: ["f": Exported(inputs: ["x": .int64(["n"])]) { ["y": f($0["x"]!)] }], to: folder + "/f.apus")
      let loaded = try load(folder + "/f.apus")
      #expect(loaded.weights.entries.map(\.name).sorted() == ["constant.0", "variable.0"])
      for n in [1, 5, 8] {
        let x = Tensor.integers(0..<100, [n], generator: Generator(seed: 3))
        expectSame(try loaded.run(["x": x])["y"], withoutGradient { compile { (x: Tensor) -> Tensor in f(x) }(x) })
      }
      // An index of the user's outside of the table.
      let bad = #expect(throws: ProgramError.self) { try loaded.run(["x": Tensor([7, 100, 2] as [Int64], shape: [3])]) }
      guard case .execution(let message)? = bad else {
        Issue.record("\(String(describing: bad))")
        return
      }
      #expect(message.contains("100"))
    }
  }

  @Test func aWeightAsAResultOutlivesItsProgram() throws {
    try withTemporaryFolder { folder in
      let weight = Parameter(Tensor.ones([1000]), name: "w")
      try export(
        signatures: ["f": Exported(inputs: ["x": .float32([1])]) { ["y": $0["x"]!, "w": weight.value] }], to: folder + "/f.apus")
      func result() throws -> Tensor { try load(folder + "/f.apus").run(["x": Tensor([1])])["w"]! }
      var y = try result()
      // Nobody else holds it: these may be done in place.
      for _ in 0..<3 { y = y + 1 }
      #expect(y.sum().item() == 4000)
    }
  }

  @Test func anArtifactIsReplacedAsAWhole() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/net.apus"
      let model = smallNet()
      try export(model, input: ["image": .float32(["batch", 1, 8, 8])], to: path)
      let old = try load(path)
      let x = Tensor.randn([2, 1, 8, 8], generator: Generator(seed: 9))
      let before = try old.run(["image": x])["output"]!
      model.head.bias?.value = Tensor.ones([10])
      try export(model, input: ["image": .float32(["batch", 1, 8, 8])], to: path)
      let new = try load(path)
      #expect(try bytes(new.run(["image": x])["output"]!) != bytes(before))
      // What was loaded before is as it was.
      expectSame(try old.run(["image": x])["output"], before)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["net.apus"], "nothing is left beside it")
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: path).sorted() == [
          "manifest.json", "program.mlir", "weights.safetensors",
        ])
      // A folder of something else is not touched.
      try FileManager.default.createDirectory(atPath: folder + "/mine", withIntermediateDirectories: true)
      try Data([1]).write(to: URL(fileURLWithPath: folder + "/mine/file"))
      #expect(throws: FormatError.self) {
        try export(model, input: ["image": .float32(["batch", 1, 8, 8])], to: folder + "/mine")
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/mine") == ["file"])
      #expect(throws: FormatError.self) {
        try export(model, input: ["image": .float32([1, 1, 8, 8])], to: folder + "/no/net.apus")
      }
    }
  }

  @Test func manyTasksRunOneProgram() async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try export(smallNet(), input: ["image": .float32(["batch", 1, 8, 8])], to: folder.path + "/net.apus")
    // Fewer plans than sizes: they are made again and again.
    let program = try load(folder.path + "/net.apus", limits: ProgramLimits(plans: 2))
    let xs = (1...4).map { Tensor.randn([$0, 1, 8, 8], generator: Generator(seed: UInt64($0))) }
    let expected = try xs.map { bytes(try program.run(["image": $0])["output"]!) }
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for task in 0..<8 {
        group.addTask {
          try (0..<20).allSatisfy { i in
            let k = (task + i) % xs.count
            return try program.run(["image": xs[k]])["output"].map(bytes) == expected[k]
          }
        }
      }
      for try await isSame in group { #expect(isSame) }
    }
  }
}
