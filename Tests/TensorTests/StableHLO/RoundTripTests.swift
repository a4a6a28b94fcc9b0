import ApusCPU
import Foundation
import Testing

@testable import ApusIR
@testable import ApusTensor

extension Graph {
  /// With fills written as their element type's own numbers: text does not tell 1 from 1.0 in a float tensor. NaN is left as text.
  var described: [String] {
    var lines = inputNames + outputNames + types.map(\.description) + outputs.map(String.init)
    for node in nodes {
      var operation = node.operation
      if case .fill(let shape, let type, let value) = operation {
        let number: Scalar =
          type == .bool
          ? .bool(value.double != 0) : type.isInteger ? .int(Int(value.double)) : .double(type.rounded(value.double))
        operation = .fill(shape, type, number)
      }
      if case .constant(let constant) = operation {
        lines.append("constant \(constant.withUnsafeBytes { Array($0) })")
      } else if operation.functions.isEmpty {
        lines.append("\(operation) \(node.inputs)")
      } else {
        lines.append("\(operation.name) \(operation.resultCount) \(node.inputs)")
        for function in operation.functions { lines += ["\(function.name) \(function.role)"] + function.graph.described }
      }
    }
    return lines
  }
}

@Suite struct RoundTripTests {
  private func check(_ sample: GraphSample) throws {
    let text = sample.graph.stableHLO()
    let parsed: Graph
    do { parsed = try Graph(stableHLO: text) } catch {
      Issue.record("\(sample): \(error)\n\(text.prefix(3000))")
      return
    }
    try parsed.verify()
    #expect(parsed.described == sample.graph.described, "\(sample)")
    #expect(parsed.stableHLO() == text, "\(sample)")
  }

  @Test(arguments: Family.allCases) func everySampleOfEveryOperation(_ family: Family) throws {
    for sample in try GraphSample.operations(family) { try check(sample) }
  }

  @Test func programs() throws {
    for sample in try GraphSample.programs() { try check(sample) }
  }

  /// Composites under a name that nobody knows are read through their decompositions, and compute the same.
  @Test(arguments: Family.allCases) func unknownCompositesRunTheirDecompositions(_ family: Family) throws {
    for sample in try GraphSample.operations(family, types: [.float32, .int32, .bool]) { try checkDecomposed(sample) }
  }

  @Test func unknownCompositesOfProgramsRunTheirDecompositions() throws {
    for sample in try GraphSample.programs() { try checkDecomposed(sample) }
  }

  private func checkDecomposed(_ sample: GraphSample) throws {
    // Windows of several tensors at once are written, but not read.
    let usesIndices = sample.graph.nodes.contains {
      switch $0.operation {
      case .maxPoolIndices: true
      case .reduceWindowGradient(let kind, let window): kind == .max && window.isDilated
      default: false
      }
    }
    if usesIndices { return }
    let text = sample.graph.stableHLO().replacingOccurrences(
      of: "stablehlo.composite \"apus.", with: "stablehlo.composite \"some.")
    let parsed: Graph
    do { parsed = try Graph(stableHLO: text) } catch {
      Issue.record("\(sample): \(error)\n\(text.prefix(3000))")
      return
    }
    // Random numbers round more: their formulas are evaluated in float64.
    let slack = sample.graph.nodes.contains { $0.operation.name == "random" } ? 1.0 : 1e-3
    let results = try CPU.run(parsed, sample.inputs.map(\.array)).map { Tensor(array: $0) }
    for (i, (result, expected)) in zip(results, try sample.results()).enumerated() {
      let problem = Reference(expected).mismatch(result, ulps: 2 * sample.ulps + 2, magnitude: sample.magnitude + slack)
      #expect(problem == nil, "\(sample), result \(i)")
    }
  }

  @Test func weightsOutsideOfTheText() throws {
    let weight = Tensor((0..<6).map { Float($0) }, shape: [2, 3])
    let sample = try GraphSample("weights", [Tensor([1, 2] as [Float], shape: [2])]) { g in
      let w = try g.append(.constant(weight.array.asConstant), []).lowerBound
      return Array(try g.append(.dot(DotDimensions(lhsContracting: [0], rhsContracting: [0])), [0, w]))
    }
    let text = sample.graph.stableHLO(constants: .weights { _, _ in "layer.\"weight\"" })
    #expect(text.contains("%arg1: tensor<2x3xf32> {apus.weight = \"layer.\\22weight\\22\"}"))
    let parsed = try Graph(stableHLO: text) { name, type in
      name == "layer.\"weight\"" && type == weight.type ? weight.array.asConstant : nil
    }
    #expect(parsed.described == sample.graph.described)
    #expect(throws: GraphTextError.self) { try Graph(stableHLO: text) }
  }

  @Test func leavesOutLargeConstants() throws {
    let sample = try GraphSample("large", []) { g in
      Array(try g.append(.constant(Tensor((0..<1000).map { Float($0) }, shape: [1000]).array.asConstant), []))
    }
    let text = sample.graph.stableHLO(constants: .elided)
    #expect(text.contains("stablehlo.constant dense_resource<__elided__> : tensor<1000xf32>"))
    #expect(throws: GraphTextError.self) { try Graph(stableHLO: text) }
  }

  /// The text itself: names, a reduction, a composite with its decomposition.
  @Test func goldenText() throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([2, 3], .float32), name: "image")
    let y = try graph.append(.unary(.relu), [x]).lowerBound
    let sum = try graph.append(.reduce(.sum, [1], keepDims: false), [y])
    graph.setOutputs(Array(sum), names: ["sum"])
    #expect(
      graph.stableHLO(name: "my model") == """
        module @my_model {
          func.func public @main(%arg0: tensor<2x3xf32> {apus.name = "image"}) -> (tensor<2xf32> {apus.name = "sum"}) {
            %0 = stablehlo.composite "apus.relu" %arg0 {decomposition = @apus_relu} : (tensor<2x3xf32>) -> tensor<2x3xf32>
            %1 = stablehlo.constant dense<0.0> : tensor<f32>
            %2 = stablehlo.reduce(%0 init: %1) applies stablehlo.add across dimensions = [1] : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32>
            return %2 : tensor<2xf32>
          }
          func.func private @apus_relu(%arg0: tensor<2x3xf32>) -> (tensor<2x3xf32>) {
            %0 = stablehlo.constant dense<0.0> : tensor<2x3xf32>
            %1 = stablehlo.maximum %arg0, %0 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
            return %1 : tensor<2x3xf32>
          }
        }

        """)
  }
}
