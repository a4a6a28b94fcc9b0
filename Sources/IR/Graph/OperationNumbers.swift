/// A number in an operation that a tensor's size may have decided.
enum SizeNumber: Hashable {
  case int(Int)
  /// A floating point number as a tensor of this type holds it.
  case double(Double, ElementType)
}

extension Operation {
  /// The operation with every number that sizes may have decided, in a fixed order, replaced; and every function inside.
  ///
  /// Axes, groups and kinds are not among the numbers: they do not depend on sizes.
  func mapped<E: Error>(
    _ f: (SizeNumber) throws(E) -> SizeNumber, functions: (Function) throws(E) -> Function
  ) throws(E) -> Operation {
    func int(_ value: Int) throws(E) -> Int {
      guard case .int(let result) = try f(.int(value)) else { return value }
      return result
    }
    func shape(_ shape: Shape) throws(E) -> Shape {
      var result = shape
      for i in shape.indices { result[i] = try int(shape[i]) }
      return result
    }
    func window(_ w: Window) throws(E) -> Window {
      Window(
        size: try shape(w.size), stride: try shape(w.stride), padLow: try shape(w.padLow), padHigh: try shape(w.padHigh),
        dilation: w.dilation)
    }
    func convolution(_ p: ConvolutionParameters) throws(E) -> ConvolutionParameters {
      var result = p
      result.padLow = try shape(p.padLow)
      result.padHigh = try shape(p.padHigh)
      return result
    }
    switch self {
    case .fill(let size, let type, let scalar):
      let size = try shape(size)
      switch scalar {
      case .bool: return .fill(size, type, scalar)
      case .int(let value): return .fill(size, type, .int(try int(value)))
      case .double(let value):
        guard case .double(let result, _) = try f(.double(value, type)) else { return .fill(size, type, scalar) }
        return .fill(size, type, .double(result))
      }
    case .iota(let size, let type, let axis): return .iota(try shape(size), type, axis: axis)
    case .random(var parameters):
      parameters.shape = try shape(parameters.shape)
      return .random(parameters)
    case .broadcast(let size): return .broadcast(try shape(size))
    case .reshape(let size): return .reshape(try shape(size))
    case .slice(let start, let size, let step):
      return .slice(start: try shape(start), size: try shape(size), step: try shape(step))
    case .pad(let low, let high, let interior):
      return .pad(low: try shape(low), high: try shape(high), interior: try shape(interior))
    case .dynamicSlice(let size): return .dynamicSlice(size: try shape(size))
    case .triangle(let upper, let diagonal): return .triangle(upper: upper, diagonal: try int(diagonal))
    case .topK(let k, let axis, let largest): return .topK(k: try int(k), axis: axis, largest: largest)
    case .convolution(let p): return .convolution(try convolution(p))
    case .convolutionInputGradient(let p, let size):
      return .convolutionInputGradient(try convolution(p), inputSize: try shape(size))
    case .convolutionKernelGradient(let p, let size):
      return .convolutionKernelGradient(try convolution(p), kernelSize: try shape(size))
    case .reduceWindow(let kind, let w): return .reduceWindow(kind, try window(w))
    case .reduceWindowGradient(let kind, let w): return .reduceWindowGradient(kind, try window(w))
    case .maxPoolIndices(let w): return .maxPoolIndices(try window(w))
    case .call(let function): return .call(try functions(function))
    case .conditional(let then, let otherwise):
      return .conditional(then: try functions(then), otherwise: try functions(otherwise))
    case .whileLoop(let loop): return .whileLoop(try Self.mapped(loop, functions))
    case .whileLoopGradient(let loop, let pullback):
      return .whileLoopGradient(try Self.mapped(loop, functions), pullback: try functions(pullback))
    case .scanLoop(var loop):
      loop.length = try int(loop.length)
      loop.body = try functions(loop.body)
      return .scanLoop(loop)
    case .customCall(var call):
      for i in call.resultTypes.indices { call.resultTypes[i].shape = try shape(call.resultTypes[i].shape) }
      return .customCall(call)
    case .unary, .binary, .compare, .select, .convert, .bitcast, .activationGradient, .constant, .transpose, .concatenate,
      .reverse, .dynamicUpdateSlice, .reduce, .argReduce, .scan, .sort, .gather, .takeAlong, .gatherND, .scatter, .scatterAlong,
      .scatterND, .dot, .quantizedDot, .stopGradient, .composite:
      return self
    }
  }

  private static func mapped<E: Error>(_ loop: WhileLoop, _ functions: (Function) throws(E) -> Function) throws(E) -> WhileLoop {
    var result = loop
    result.condition = try functions(loop.condition)
    result.body = try functions(loop.body)
    return result
  }

  /// The operation without its numbers and functions: what must be the same at any size.
  var outline: Operation {
    func zero(_ number: SizeNumber) -> SizeNumber {
      switch number {
      case .int: .int(0)
      case .double(_, let type): .double(0, type)
      }
    }
    func empty(_ function: Function) -> Function { Function(function.name, Graph(), role: function.role) }
    return mapped(zero, functions: empty)
  }
}
