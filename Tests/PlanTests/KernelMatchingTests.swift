import Foundation
import Testing

@testable import ApusCPU
@testable import ApusIR

/// Formulas in primitives are found and give what they gave.
@Suite struct KernelMatchingTests {
  /// The matched graph, verified and compared with the source and with its plan.
  @discardableResult
  private func matched(
    _ source: Graph, _ expected: [String], bound: Double? = nil, inputs: [CPUArray]? = nil, _ comment: Comment? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> Graph {
    try source.verify()
    let after = withMatchedKernels(simplified(source))
    try after.verify()
    #expect(after.inputTypes == source.inputTypes && after.outputTypes == source.outputTypes, sourceLocation: sourceLocation)
    for name in expected {
      #expect(after.names.contains(name), "\(comment ?? "") \(after.names)", sourceLocation: sourceLocation)
    }
    let inputs = inputs ?? arrays(source.inputTypes)
    let reference = try CPU.run(source, inputs)
    let plan = Plan(source, exact: false)
    try plan.graph.verify()
    for results in [try CPU.run(after, inputs), try plan.run(inputs)] {
      for (result, reference) in zip(results, reference) {
        let type = reference.elementType
        let limit = bound ?? (type == .float64 ? 1e-13 : type == .float32 ? 4e-6 : 0.04)
        let difference = distance(result, reference)
        #expect(difference <= limit, "\(comment ?? "")", sourceLocation: sourceLocation)
      }
    }
    return after
  }

  private func unmatched(_ source: Graph, sourceLocation: SourceLocation = #_sourceLocation) {
    let before = simplified(source)
    let new = Set(withMatchedKernels(before).names).subtracting(before.names)
    #expect(new.isEmpty, "\(new)", sourceLocation: sourceLocation)
  }

  private static let types: [ElementType] = [.float32, .float64, .bfloat16, .float16]

  // MARK: Rows

  @Test(arguments: types) func softmax(_ type: ElementType) throws {
    let x = TensorType([3, 4, 17], type)
    for composite in [Composite.softmax, .logSoftmax] {
      let source = try #require(Operation.composite(composite).decomposition([x]))
      #expect(try matched(source, [composite.name]).nodes.count == 1)
    }
    let flat = graph([x]) { b, x in
      // Reductions without the dimension, the maximum guarded, divisions as products.
      let top = x[0].reduce(.max, [2])
      let guarded = top.binary(.max, top.like(-.infinity)).reshape([3, 4, 1]).broadcast([3, 4, 17])
      let e = (x[0] - guarded).unary(.exp)
      let sum = e.sum([2])
      return [e * (1 / sum).reshape([3, 4, 1])]
    }
    #expect(try matched(flat, ["softmax"]).nodes.count == 1)
    let logSumExp = graph([x]) { _, x in [x[0] - x[0].logSumExp(keepDims: true)] }
    #expect(try matched(logSumExp, ["logSoftmax"]).nodes.count == 1)
    if type == .bfloat16 {
      // JAX sums in float32.
      let wide = graph([x]) { _, x in
        let e = (x[0] - x[0].reduce(.max, [2], keepDims: true)).unary(.exp)
        return [e / e.convert(.float32).sum([2], keepDims: true).convert(.bfloat16)]
      }
      #expect(try matched(wide, ["softmax"]).nodes.count == 1)
    }
  }

  @Test func whatIsNoSoftmaxStays() {
    let x = float([3, 3])
    unmatched(
      graph([x]) { _, x in  // of columns
        let e = (x[0] - x[0].reduce(.max, [0], keepDims: true)).unary(.exp)
        return [e / e.sum([0], keepDims: true)]
      })
    unmatched(
      graph([x]) { _, x in  // another axis of a square
        let e = (x[0] - x[0].reduce(.max, [1]).reshape([1, 3])).unary(.exp)
        return [e / e.sum([1], keepDims: true)]
      })
    unmatched(
      graph([x]) { _, x in  // its exponentials are read
        let e = (x[0] - x[0].reduce(.max, [1], keepDims: true)).unary(.exp)
        return [e / e.sum([1], keepDims: true), e]
      })
    unmatched(
      graph([x, x]) { _, x in  // the sum is another's
        let (e, f) = ((x[0] - x[0].reduce(.max, [1], keepDims: true)).unary(.exp), x[1].unary(.exp))
        return [e / f.sum([1], keepDims: true)]
      })
  }

  @Test(arguments: types) func normalization(_ type: ElementType) throws {
    let types = [TensorType([3, 5, 16], type), TensorType([16], type), TensorType([16], type)]
    let layer = try #require(Operation.composite(.layerNorm(epsilon: 1e-5)).decomposition(types)).selecting([0])
    try matched(layer, ["layerNorm"])
    let rms = try #require(Operation.composite(.rmsNorm(epsilon: 1e-6)).decomposition(Array(types[..<2]))).selecting([0])
    try matched(rms, ["rmsNorm"])
  }

  @Test func normalizationAsItIsWritten() throws {
    for shape in [Shape([4, 6, 16]), [1, 16], [16]] {
      let last = shape.count - 1
      let types = [TensorType(shape, .float64), TensorType([16], .float64), TensorType([16], .float64)]
      func mean(_ x: Term) -> Term { x.mean([last], keepDims: true) }
      let forms: [(String, ([Term]) -> Term)] = [
        (
          "without parameters",
          { x in
            let centred = x[0] - mean(x[0])
            return centred / (mean(centred * centred) + 1e-5).unary(.sqrt)
          }
        ),
        (
          "flax",
          { x in
            let m = mean(x[0])
            let variance = (mean(x[0] * x[0]) - m * m).binary(.max, m.like(0.0))
            let factor = (variance + 1e-6).unary(.rsqrt) * x[1]
            return (x[0] - m) * factor + x[2]
          }
        ),
        (
          "weight first",
          { x in
            let centred = x[0] - mean(x[0])
            let variance = centred.unary(.square).sum([last]) * (1.0 / 16)
            let deviation = (variance + 1e-5).unary(.sqrt).reshape(mean(x[0]).shape)
            return x[2] + x[1] * (centred / deviation)
          }
        ),
        (
          "power",
          { x in
            let centred = x[0] - mean(x[0])
            let inverse = (mean(centred * centred) + 1e-5)
            return centred * inverse.binary(.pow, inverse.like(-0.5)) * x[1] + x[2]
          }
        ),
      ]
      for (name, form) in forms {
        let after = try matched(graph(types) { _, x in [form(x)] }, ["layerNorm"], bound: 1e-11, "\(name) \(shape)")
        #expect(after.count("sub") == 0 && after.count("sum") == 0, "\(name) \(shape)")
      }
      try matched(
        graph(types) { _, x in [x[1] * (x[0] / (mean(x[0].unary(.square)) + 1e-6).unary(.sqrt))] }, ["rmsNorm"], "\(shape)")
    }
  }

  @Test func whatIsNoNormalizationStays() {
    let types = [[4, 4], [4], [4, 4]].map(float)
    func mean(_ x: Term) -> Term { x.mean([1], keepDims: true) }
    unmatched(
      graph(types) { _, x in  // the variance of something else
        let (c, d) = (x[0] - mean(x[0]), x[2] - mean(x[2]))
        return [c * (mean(d * d) + 1e-5).unary(.rsqrt) * x[1]]
      })
    unmatched(
      graph(types) { _, x in  // by a wrong count
        let c = x[0] - mean(x[0])
        return [c * ((c * c).sum([1], keepDims: true) / 3 + 1e-5).unary(.rsqrt)]
      })
    unmatched(
      graph(types) { _, x in  // the normalized rows are read
        let c = x[0] - mean(x[0])
        let y = (mean(c * c) + 1e-5).unary(.rsqrt)
        return [c * y, y]
      })
  }

  /// As JAX writes it; one pass over memory.
  @Test func reductionsAndWhatTheyAreBroadcastToAreOneKernel() throws {
    let source = graph([float([6, 40])]) { _, x in [x[0] / x[0].unary(.abs).reduce(.max, [1]).reshape([6, 1])] }
    try matched(source, ["max"])
    #expect(Plan(source, exact: false).kernelCount == 1 && Plan(source).kernelCount > 1)
    let read = graph([float([6, 40])]) { _, x in
      let top = x[0].reduce(.max, [1])
      return [x[0] / top.reshape([6, 1]), top]
    }
    unmatched(read)
  }

  /// Functions are written out: what is inside of them counts.
  @Test func calls() throws {
    let silu = Function("silu", graph([float([9])]) { _, x in [x[0] * x[0].unary(.sigmoid)] })
    let twice = Function("twice", graph([float([9])]) { b, x in b.apply(.call(silu), b.apply(.call(silu), x)) })
    let source = graph([float([9])]) { b, x in b.apply(.call(twice), x) + b.apply(.call(silu), x) }
    let after = try matched(source, ["silu"])
    #expect(after.names == ["silu", "silu"], "the first of two stands once")
    try withInlinedCalls(source).verify()
  }

  /// In half precision the composite rounds once.
  @Test func linear() throws {
    let types = [[5, 8], [8, 3], [3], [3, 8]].map { TensorType($0, .bfloat16) }
    let source = graph(types) { b, x in
      let transposed = DotDimensions(lhsContracting: [1], rhsContracting: [1])
      return [x[0].matmul(x[1]) + x[2], x[2].broadcast([5, 3]) + b.apply(.dot(transposed), [x[0], x[3]])[0]]
    }
    #expect(try matched(source, ["linear"], bound: 0.1).count("linear") == 2)
  }

  // MARK: Activations

  @Test(arguments: types) func activations(_ type: ElementType) throws {
    let x = TensorType([200], type)
    let c = (2 / Double.pi).squareRoot()
    func one(_ f: @escaping (Term) -> Term) -> Graph { graph([x]) { _, x in [f(x[0])] } }
    func erf(_ x: Term) -> Term { (x * 0.5.squareRoot()).unary(.erf) }
    func tanh(_ x: Term) -> Term { (x.unary(.tanh) + 1.0) * 0.5 }
    let forms: [(String, Graph)] = [
      ("gelu", one { x in x * 0.5 * (erf(x) + 1.0) }),
      ("gelu", one { x in (erf(x) * 0.5 + 0.5) * x }),
      ("gelu", one { x in (x * (x / 2.0.squareRoot()).unary(.erf) + x) * 0.5 }),
      ("gelu", one { x in x * 0.5 * ((-x) * 0.5.squareRoot()).unary(.erfc) }),
      ("geluTanh", one { x in tanh((x + x * x * x * 0.044715) * c) * x }),
      ("geluTanh", one { x in x * tanh(x * c * (x.unary(.square) * 0.044715 + 1.0)) }),
      ("geluTanh", one { x in x * tanh((x + x.binary(.pow, x.like(3.0)) * 0.044715) * c) }),
      ("silu", one { x in x * x.unary(.sigmoid) }),
      ("silu", one { x in x / ((-x).unary(.exp) + 1.0) }),
      ("sigmoid", one { x in 1 / ((-x).unary(.exp) + 1.0) }),
      ("relu", one { x in x.binary(.max, x.like(0.0)) }),
    ]
    for (i, (name, source)) in forms.enumerated() {
      let after = try matched(source, [name], "\(i)")
      #expect(after.nodes.count == 1, "\(i): \(after.names)")
    }
    // Of what is itself an activation.
    let twice = one { x in
      let y = x * x.unary(.sigmoid)
      return y * 0.5 * (erf(y) + 1.0)
    }
    #expect(try matched(twice, ["silu", "gelu"]).nodes.count == 2)
  }

  @Test func whatIsNoActivationStays() {
    func one(_ f: @escaping (Term) -> [Term]) -> Graph { graph([float([8]), float([8])]) { _, x in f(x[0]) } }
    unmatched(one { x in [x * 0.5 * ((x * 0.7).unary(.erf) + 1.0)] })
    unmatched(one { x in [x * 0.5 * ((x * 0.5.squareRoot()).unary(.erf) + 2.0)] })
    unmatched(one { x in [x * x * x.unary(.sigmoid)] })
    unmatched(one { x in [x * (-x).unary(.sigmoid)] })
    unmatched(one { x in [x.binary(.max, x.like(1.0))] })
    unmatched(
      one { x in
        let s = x.unary(.sigmoid)
        return [x * s, s]
      })
    unmatched(graph([float([8]), float([8])]) { _, x in [x[0] * x[1].unary(.sigmoid)] })
  }

  @Test func reluKeepsNaN() throws {
    let source = graph([float([4])]) { _, x in [x[0].binary(.max, x[0].like(0.0))] }
    let result = try Plan(source, exact: false).run([array([.nan, -1, 2, -.infinity], [4], .float32)])[0]
    #expect(numbers(result)[0].isNaN && Array(numbers(result)[1...]) == [0, 2, 0])
  }
}
