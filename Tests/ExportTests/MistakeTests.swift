import Apus
import Foundation
import Testing

/// What cannot be exported, and inputs that do not fit.
@Suite struct MistakeTests {
  private func exportError(
    _ inputs: KeyValuePairs<String, TensorSpec>, _ f: @escaping ([String: Tensor]) -> [String: Tensor]
  ) throws -> ExportError? {
    try withTemporaryFolder { folder in
      #expect(throws: ExportError.self) {
        try export(signatures: ["f": Exported(inputs: inputs, f)], to: folder + "/f.apus")
      }
    }
  }

  @Test func whatCannotBeExported() throws {
    let random = try exportError(["x": .float32([2])]) { ["y": $0["x"]! + Tensor.randn([2])] }
    #expect(random == .drawsRandomNumbers(signature: "f"))
    let root = try exportError(["x": .float32(["n"])]) { ["y": $0["x"]! * (1 / Double($0["x"]!.count).squareRoot())] }
    #expect("\(root!)".contains("fill") && "\(root!)".contains("not understood"))
    let branch = try exportError(["x": .float32(["n"])]) { ["y": $0["x"]!.count > 6 ? exp($0["x"]!) : log($0["x"]!)] }
    #expect("\(branch!)".contains("log is exp"))
    let square = try exportError(["x": .float32(["n"])]) { ["y": Tensor.zeros([$0["x"]!.count * $0["x"]!.count])] }
    #expect("\(square!)".contains("not multilinear"))
    let constant = try exportError(["x": .float32(["n"])]) {
      ["y": $0["x"]! + Tensor((0..<$0["x"]!.count).map(Float.init), shape: [$0["x"]!.count])]
    }
    #expect("\(constant!)".contains("a constant of type float32[5]"))
    #expect("\(try exportError(["x": .float32(["a", "b", "c", "d"])]) { $0 }!)".contains("4 dimensions are open"))
    #expect("\(try exportError(["x": .float32([.open("a", 3...3)])]) { $0 }!)".contains("has only the size 3"))
    #expect("\(try exportError(["x": .float32([1]), "x": .float32([1])]) { $0 }!)".contains("each another one"))
  }

  @Test func smallBounds() throws {
    try withTemporaryFolder { folder in
      let f = Exported(inputs: ["x": .float32([.open("n", 2...3)])]) { ["y": $0["x"]!.sum(axis: 0) * Double($0["x"]!.count)] }
      try export(signatures: ["f": f], to: folder + "/f.apus")
      let program = try load(folder + "/f.apus")
      #expect(try program.run(["x": Tensor([1, 2])])["y"]!.item() == 6)
      #expect(throws: ProgramError.wrongSize(dimension: "n", message: "is 4, but must be from 2 to 3")) {
        try program.run(["x": Tensor([1, 2, 3, 4])])
      }
    }
  }

  @Test func inputsThatDoNotFit() throws {
    try withTemporaryFolder { folder in
      let f = Exported(inputs: ["image": .float32(["batch", 3]), "scale": .float32(["batch"])]) {
        ["y": $0["image"]! * $0["scale"]!.expanded(at: 1)]
      }
      try export(signatures: ["serve": f, "other": f], to: folder + "/f.apus")
      let program = try load(folder + "/f.apus")
      let (image, scale) = (Tensor.ones([2, 3]), Tensor.ones([2]))
      #expect(try program.run(["image": image, "scale": scale])["y"]!.shape == [2, 3])
      func error(_ inputs: [String: Tensor], _ signature: String? = nil) -> ProgramError? {
        #expect(throws: ProgramError.self) { try program.run(inputs, signature: signature) }
      }
      #expect(error(["imge": image, "scale": scale]) == .unknownInput("imge", near: "image", known: ["image", "scale"]))
      #expect("\(error(["imge": image, "scale": scale])!)" == "there is no input 'imge'; did you mean 'image'?")
      #expect(error(["scale": scale]) == .missingInput("image", expected: "float32[batch, 3]"))
      #expect(
        error(["image": image, "scale": Tensor.ones([2], .float64)])
          == .wrongType(input: "scale", expected: "float32[batch]", found: "float64[2]"))
      #expect(
        error(["image": Tensor.ones([2, 4]), "scale": scale])
          == .wrongType(input: "image", expected: "float32[batch, 3]", found: "float32[2, 4]"))
      #expect(error(["image": Tensor.ones([2]), "scale": scale]) != nil)
      #expect(
        error(["image": image, "scale": Tensor.ones([3])])
          == .wrongSize(dimension: "batch", message: "is 2 in one input, but 3 in 'scale'"))
      #expect(error(["image": Tensor.ones([0, 3]), "scale": Tensor.ones([0])]) != nil)
      #expect(error(["image": image], "serv") == .unknownSignature("serv", near: "serve", known: ["other", "serve"]))
      let small = try load(folder + "/f.apus", limits: ProgramLimits(memory: 1000))
      #expect(throws: ProgramError.self) { try small.run(["image": Tensor.ones([200, 3]), "scale": Tensor.ones([200])]) }
      #expect(try small.run(["image": image, "scale": scale])["y"] != nil)
      // Strided inputs are as good as others.
      expectSame(
        try program.run(["image": Tensor.arange(6).reshaped([3, 2]).transposed().converted(to: .float32), "scale": scale])["y"],
        Tensor.arange(6).reshaped([3, 2]).transposed().converted(to: .float32).contiguous())
    }
  }
}
