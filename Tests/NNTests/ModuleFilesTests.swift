import ApusFormats
import ApusNN
import ApusTensor
import Foundation
import Testing

@Suite struct ModuleFilesTests {
  @Test func weightsSavedByPyTorchLoadAndComputeTheSame() throws {
    let model = Small()
    let report = try model.load(fixturePath("small.safetensors"))
    #expect(report.isComplete && report.metadata == ["format": "pt"])
    #expect(report.description == "everything was loaded")
    let check = try loadTensors(from: fixturePath("small.check.safetensors"))
    let x = try #require(check["x"])
    expectClose(model.evaluating { model(x) }, try #require(check["y"]), .float32, "y")
  }

  @Test func savedWeightsComeBackBitForBit() throws {
    try withTemporaryFolder { folder in
      let model = Small()
      _ = model(Tensor.randn([4, 1, 6, 6]))
      try model.save(folder + "/model.safetensors", metadata: ["epoch": "3"])
      let copy = Small()
      let report = try copy.load(folder + "/model.safetensors")
      #expect(report.metadata["epoch"] == "3")
      for (a, b) in zip(model.namedVariables, copy.namedVariables) {
        #expect(a.name == b.name)
        #expect(a.variable.value.withUnsafeBytes { Array($0) } == b.variable.value.withUnsafeBytes { Array($0) })
      }
      #expect(copy.stem[1].variables.last?.value.item(as: Int.self) == 1)
    }
  }

  @Test(arguments: ElementType.allCases)
  func tensorsOfEveryTypeComeBack(_ type: ElementType) throws {
    try withTemporaryFolder { folder in
      let path = folder + "/t.safetensors"
      let tensors = [
        "matrix": Tensor([0, 1, 1, 0, 1, 1] as [Int], shape: [2, 3]).converted(to: type),
        "transposed": Tensor([1, 0, 0, 1, 1, 1] as [Int], shape: [2, 3]).converted(to: type).T,
        "scalar": Tensor(1).converted(to: type),
        "empty": Tensor.zeros([0, 4], type),
      ]
      try saveTensors(tensors, to: path)
      let back = try loadTensors(from: path)
      #expect(Set(back.keys) == Set(tensors.keys))
      for (name, tensor) in tensors {
        let other = try #require(back[name])
        #expect(other.type == tensor.type)
        #expect(other.elements(as: Double.self) == tensor.elements(as: Double.self))
      }
    }
  }

  @Test func everyByteButZeroIsTrue() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/bool.safetensors"
      try SafetensorsFile.write([.init(name: "mask", dataType: .bool, shape: [3], bytes: [0, 1, 255])], to: path)
      let mask = try #require(try loadTensors(from: path)["mask"])
      #expect(mask.elementType == .bool && mask.withUnsafeBytes { Array($0) } == [0, 1, 1])
    }
  }

  @Test func indexedFilesLoad() throws {
    try withTemporaryFolder { folder in
      let model = Small()
      let sources = model.state.keys.sorted().map { SafetensorsFile.Source(name: $0, model.state[$0]!) }
      let files = try SafetensorsShards.write(sources, toFolder: folder, maximumShardSize: 700)
      #expect(files.count > 2)
      let copy = Small()
      try copy.load(folder + "/" + files.last!)
      for (a, b) in zip(model.variables, copy.variables) { #expect(a.value.floats == b.value.floats) }
    }
  }

  @Test func strictLoadingNamesWhatDiffersAndChangesNothing() throws {
    let model = Small()
    let before = model.variables.map { $0.value.floats }
    var state = model.state.mapValues { $0 + 1 }
    state["classhead.weight"] = state.removeValue(forKey: "class_head.weight")
    state["layers.0.bn.weight"] = Tensor.zeros([5])
    state["extra"] = Tensor(1.0)
    state["class_head.bias"] = state["class_head.bias"]?.converted(to: .float16)
    let error = try #require(throws: LoadError.self) { try model.load(state: state) }
    #expect(error.report.missing == ["class_head.weight"])
    #expect(error.report.unexpected == ["classhead.weight", "extra"])
    #expect(Set(error.report.mismatched.map(\.name)) == ["layers.0.bn.weight", "class_head.bias"])
    #expect(error.description.contains("missing 'class_head.weight'; did you mean 'classhead.weight', which the file has?"))
    #expect(error.description.contains("'layers.0.bn.weight' is float32[5], expected float32[4]"))
    #expect(error.description.contains("'class_head.bias' is float16[3], expected float32[3]"))
    #expect(model.variables.map { $0.value.floats } == before)

    let report = try model.load(state: state, strict: false, convert: true)
    #expect(report.missing == ["class_head.weight"] && report.mismatched.map(\.name) == ["layers.0.bn.weight"])
    let unchanged: Set = ["class_head.weight", "layers.0.bn.weight"]
    for (i, (name, variable)) in model.namedVariables.enumerated() {
      #expect((variable.value.floats == before[i]) == unchanged.contains(name), "\(name)")
    }
  }

  @Test func brokenFilesThrowAndChangeNothing() throws {
    try withTemporaryFolder { folder in
      let model = Linear(2, 2)
      let before = model.weight.value.floats
      #expect(throws: FormatError.self) { try model.load(folder + "/none.safetensors") }
      // A type that Apus lacks under a right name: strict loading refuses it, lenient leaves it.
      let path = folder + "/odd.safetensors"
      try SafetensorsFile.write(
        [
          .init(name: "weight", dataType: .complex64, shape: [2, 2], bytes: Array(repeating: 0, count: 32)),
          .init(name: "bias", Tensor.ones([2])),
        ], to: path)
      #expect(throws: LoadError.self) { try model.load(path, convert: true) }
      let report = try model.load(path, strict: false)
      #expect(report.description == "'weight' is C64[2, 2], expected float32[2, 2]")
      #expect(model.weight.value.floats == before && model.bias?.value.floats == [1, 1])
      // More dimensions than a tensor can have.
      try SafetensorsFile.write(
        [.init(name: "weight", dataType: .float32, shape: Array(repeating: 1, count: 9), bytes: [0, 0, 0, 0])], to: path)
      #expect(throws: FormatError.self) { try loadTensors(from: path) }
      #expect(throws: LoadError.self) { try model.load(path) }
    }
  }
}
