import ApusCPU

@testable import ApusTensor

/// Graphs written by hand, as a program that is read from a file has them.
private func function(_ name: String, _ inputs: [TensorType], _ body: (inout Builder) -> [Int]) -> Function {
  var builder = Builder()
  for type in inputs { builder.graph.addInput(type) }
  let outputs = body(&builder)
  builder.graph.setOutputs(outputs)
  return Function(name, builder.graph)
}

private struct Builder {
  var graph = Graph()

  mutating func callAsFunction(_ operation: Operation, _ inputs: Int...) -> Int {
    let types: [TensorType]
    do { types = try operation.infer(inputs.map { graph.type($0) }) } catch { stop(error.description) }
    return graph.append(operation, inputs, types: types).lowerBound
  }
}

private let row = TensorType([3], .float64)
private let number = TensorType([], .int64)

extension OperationSamples {
  static var constant: [Sample] {
    [Input([2, 3]), Input([], .positive)].flatMap { input in
      [ElementType.float32, .int64, .bool].map { Sample(.constant(input.tensor($0).array.asConstant), [], [$0]) }
    }
  }

  static var call: [Sample] {
    let f = function("twoResults", [row, row]) { f in
      let t = f(.unary(.tanh), 0)
      return [f(.binary(.mul), t, 1), f(.binary(.add), 0, 1)]
    }
    return [Sample(.call(f), [Input([3]), Input([3], .positive, seed: 1)], [.float64], gradients: [0, 1])]
  }

  static var conditional: [Sample] {
    let then = function("then", [row, row]) { f in
      let s = f(.unary(.sin), 0)
      return [f(.binary(.mul), s, 1), f(.unary(.neg), 0)]
    }
    let otherwise = function("otherwise", [row, row]) { f in [f(.unary(.square), 0), 0] }
    // The predicate of seed 2 holds, that of seed 0 does not.
    return [2, 0].map { seed in
      Sample(
        .conditional(then: then, otherwise: otherwise),
        [Input([], seed: seed, role: .fixed(.bool)), Input([3]), Input([3], seed: 1)], [.float64], gradients: [1, 2])
    }
  }

  /// (i, x), w → (i + 1, sin(x w) + x) while i < 4.
  private static var loop: WhileLoop {
    let condition = function("condition", [number, row, row]) { f in
      [f(.compare(.less), 0, f(.fill([], .int64, .int(4))))]
    }
    let body = function("body", [number, row, row]) { f in
      let product = f(.binary(.mul), 1, 2)
      let next = f(.binary(.add), f(.unary(.sin), product), 1)
      return [f(.binary(.add), 0, f(.fill([], .int64, .int(1)))), next]
    }
    return WhileLoop(condition: condition, body: body, carried: 2)
  }

  static var whileLoop: [Sample] {
    // From 0, and from a number that allows no round.
    [0, 7].map { start in
      Sample(
        .whileLoop(loop), [.indices([], .list([start])), Input([3]), Input([3], .unit, seed: 1)], [.float64], gradients: [1, 2])
    }
  }

  static var whileLoopGradient: [Sample] {
    let pullback = function("pullback", [number, row, row, number, row]) { f in
      let slope = f(.unary(.cos), f(.binary(.mul), 1, 2))
      let inner = f(.binary(.mul), slope, 4)
      let dx = f(.binary(.add), f(.binary(.mul), inner, 2), 4)
      return [f(.fill([], .int64, .int(0))), dx, f(.binary(.mul), inner, 1)]
    }
    return [
      Sample(
        .whileLoopGradient(loop, pullback: pullback),
        [
          .indices([], .list([0])), Input([3]), Input([3], .unit, seed: 1), .indices([], .list([0])), Input([3], seed: 2),
        ], [.float64])
    ]
  }

  /// (n, h), (x, k), w → (n + k, tanh(h w + x)), (h x, n).
  static var scanLoop: [Sample] {
    let body = function("body", [number, row, row, number, row]) { f in
      let sum = f(.binary(.add), f(.binary(.mul), 1, 4), 2)
      return [f(.binary(.add), 0, 3), f(.unary(.tanh), sum), f(.binary(.mul), 1, 2), 0]
    }
    return [(5, false), (5, true), (1, false), (0, false)].map { length, reverse in
      let loop = ScanLoop(body: body, carried: 2, sequences: 2, length: length, reverse: reverse)
      return Sample(
        .scanLoop(loop),
        [
          .indices([], .list([1])), Input([3], .unit), Input([length, 3], .unit, seed: 1), .indices([length], .count),
          Input([3], .unit, seed: 2),
        ], [.float64], gradients: [1, 2, 4])
    }
  }

  static var customCall: [Sample] {
    registerCustomCall("tests.mirrored") { inputs, _ in [-inputs[0], inputs[0] + inputs[1]] }
    let call = CustomCall("tests.mirrored", resultTypes: [row, row])
    return [Sample(.customCall(call), [Input([3]), Input([3], seed: 1)], [.float64]).only([.float64])]
  }
}
