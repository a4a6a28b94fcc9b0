// Operations that StableHLO has.

extension UnaryKind {
  /// nil where it is a composite for this type.
  func mlir(_ type: ElementType) -> String? {
    switch self {
    case .neg: "negate"
    case .abs: type == .uint8 ? nil : "abs"
    case .sign: type == .uint8 ? nil : "sign"
    case .floor: type.isFloatingPoint ? "floor" : nil
    case .ceil: type.isFloatingPoint ? "ceil" : nil
    case .round: type.isFloatingPoint ? "round_nearest_even" : nil
    case .sqrt: "sqrt"
    case .rsqrt: "rsqrt"
    case .exp: "exponential"
    case .expm1: "exponential_minus_one"
    case .log: "log"
    case .log1p: "log_plus_one"
    case .sin: "sine"
    case .cos: "cosine"
    case .tan: "tan"
    case .tanh: "tanh"
    case .sigmoid: "logistic"
    case .not: "not"
    case .isFinite: type.isFloatingPoint ? "is_finite" : nil
    case .trunc, .reciprocal, .square, .exp2, .log2, .asin, .acos, .atan, .sinh, .cosh, .asinh, .acosh, .atanh, .erf, .erfc,
      .erfInv, .isNaN, .isInfinite, .relu, .gelu, .geluTanh, .silu, .softplus:
      nil
    }
  }
}

extension BinaryKind {
  func mlir(_ type: ElementType) -> String? {
    switch self {
    case .add: "add"
    case .sub: "subtract"
    case .mul: "multiply"
    case .div: "divide"
    case .rem: "remainder"
    case .pow: "power"
    case .max: "maximum"
    case .min: "minimum"
    case .atan2: "atan2"
    case .and: "and"
    case .or: "or"
    case .xor: "xor"
    case .shiftLeft: "shift_left"
    case .shiftRight: type.isSigned ? "shift_right_arithmetic" : "shift_right_logical"
    case .floorDiv, .mod: nil
    }
  }
}

extension ComparisonKind {
  var mlir: String {
    switch self {
    case .equal: "EQ"
    case .notEqual: "NE"
    case .less: "LT"
    case .lessEqual: "LE"
    case .greater: "GT"
    case .greaterEqual: "GE"
    }
  }
}

extension ReductionKind {
  /// The operation and what it starts from.
  func mlir(_ type: ElementType) -> (operation: String, start: Scalar) {
    switch self {
    case .sum: ("add", .int(0))
    case .product: ("multiply", .int(1))
    case .max: ("maximum", type.extremes.low)
    case .min: ("minimum", type.extremes.high)
    case .all: ("and", .bool(true))
    case .any: ("or", .bool(false))
    }
  }
}

extension ElementType {
  var comparison: String { isFloatingPoint ? "FLOAT" : isSigned ? "SIGNED" : "UNSIGNED" }
}

extension FunctionPrinter {
  /// nil if StableHLO has no such operation for these operands.
  func native(_ operation: Operation, _ x: [String], _ inputs: [TensorType], _ results: [TensorType]) -> [String]? {
    func one(_ name: String, _ rest: String = "") -> [String] { [write("stablehlo." + name, x, rest: rest, inputs, results[0])] }
    switch operation {
    case .unary(let kind):
      guard let name = kind.mlir(inputs[0].elementType) else { return nil }
      return one(name)
    case .binary(let kind):
      guard let name = kind.mlir(inputs[0].elementType) else { return nil }
      return one(name)
    case .compare(let kind):
      let operands = "\(kind.mlir), \(x[0]), \(x[1]), \(inputs[0].elementType.comparison)"
      return [write("stablehlo.compare", [operands], inputs, results[0])]
    case .select: return one("select")
    case .convert: return one("convert")
    case .bitcast(let type):
      return inputs[0].elementType == .bool && type != .bool ? nil : one("bitcast_convert")
    case .fill(_, let type, let value):
      let name = fresh()
      line("\(name) = stablehlo.constant dense<\(MLIRLiteral.element(value, type))> : \(results[0].mlir)")
      return [name]
    case .iota(_, _, let axis):
      let name = fresh()
      line("\(name) = stablehlo.iota dim = \(axis) : \(results[0].mlir)")
      return [name]
    case .constant(let constant): return [self.constant(constant)]
    case .broadcast(let shape):
      let first = shape.count - inputs[0].shape.count
      return one("broadcast_in_dim", ", dims = \(MLIRLiteral.list(first..<shape.count))")
    case .reshape: return one("reshape")
    case .transpose(let permutation): return one("transpose", ", dims = \(MLIRLiteral.list(permutation))")
    case .slice(let start, let size, let step):
      let ranges = (0..<start.count).map { i -> String in
        let limit = size[i] == 0 ? start[i] : start[i] + (size[i] - 1) * step[i] + 1
        return "\(start[i]):\(limit)" + (step[i] == 1 ? "" : ":\(step[i])")
      }
      return one("slice", " [\(ranges.joined(separator: ", "))]")
    case .pad(let low, let high, let interior):
      return one(
        "pad", ", low = \(MLIRLiteral.list(low)), high = \(MLIRLiteral.list(high)), interior = \(MLIRLiteral.list(interior))")
    case .concatenate(let axis): return one("concatenate", ", dim = \(axis)")
    case .reverse(let axes): return one("reverse", ", dims = \(MLIRLiteral.list(axes))")
    case .reduce(let kind, let axes, let keepDims):
      if keepDims { return nil }
      let type = inputs[0].elementType
      let (name, start) = kind.mlir(type)
      let initial = scalar(start, type)
      let result = fresh()
      line(
        "\(result) = stablehlo.reduce(\(x[0]) init: \(initial)) applies stablehlo.\(name) across dimensions = "
          + "\(MLIRLiteral.list(axes)) : \(Self.signature([inputs[0], TensorType([], type)], results))")
      return [result]
    case .dot(let d):
      let batch =
        d.lhsBatch.isEmpty ? "" : ", batching_dims = \(MLIRLiteral.list(d.lhsBatch)) x \(MLIRLiteral.list(d.rhsBatch))"
      return one(
        "dot_general",
        batch + ", contracting_dims = \(MLIRLiteral.list(d.lhsContracting)) x \(MLIRLiteral.list(d.rhsContracting))")
    case .convolution(let p): return x.count == 3 ? nil : [convolution(p, x, inputs, results[0])]
    case .reduceWindow(let kind, let window):
      switch kind {
      case .max: return [reduceWindow("maximum", inputs[0].elementType.extremes.low, window, x[0], inputs[0], results[0])]
      case .sum: return [reduceWindow("add", .int(0), window, x[0], inputs[0], results[0])]
      case .average, .averageValid: return nil
      }
    case .call(let function): return function.role == .fusion ? nil : call(function, x, inputs, results)
    case .conditional(let then, let otherwise): return conditional(then, otherwise, x, inputs, results)
    case .whileLoop(let loop): return whileLoop(loop, x, inputs, results)
    case .customCall(let call):
      let (prefix, names) = several(results.count)
      line(
        "\(prefix)\"stablehlo.custom_call\"(\(x.joined(separator: ", "))) {call_target_name = \(MLIRLiteral.string(call.name)), "
          + "backend_config = \(MLIRLiteral.string(call.configuration))} : \(Self.signature(inputs, results))")
      return names
    case .activationGradient, .random, .dynamicSlice, .dynamicUpdateSlice, .triangle, .argReduce, .scan, .sort, .topK, .gather,
      .takeAlong, .gatherND, .scatter, .scatterAlong, .scatterND, .quantizedDot, .convolutionInputGradient,
      .convolutionKernelGradient, .reduceWindowGradient, .maxPoolIndices, .stopGradient, .whileLoopGradient, .scanLoop,
      .composite:
      return nil
    }
  }

  private func convolution(_ p: ConvolutionParameters, _ x: [String], _ inputs: [TensorType], _ result: TensorType) -> String {
    let spatial = (0..<p.spatialRank).map(String.init).joined(separator: ", ")
    let padding = (0..<p.spatialRank).map { "[\(p.padLow[$0]), \(p.padHigh[$0])]" }.joined(separator: ", ")
    let flags = (0..<p.spatialRank).map { _ in "false" }.joined(separator: ", ")
    let name = fresh()
    line(
      "\(name) = stablehlo.convolution(\(x[0]), \(x[1])) dim_numbers = [b, f, \(spatial)]x[o, i, \(spatial)]->[b, f, \(spatial)], "
        + "window = {stride = \(MLIRLiteral.list(p.stride)), pad = [\(padding)], lhs_dilate = \(MLIRLiteral.list(p.inputDilation)), "
        + "rhs_dilate = \(MLIRLiteral.list(p.kernelDilation)), reverse = [\(flags)]} "
        + "{batch_group_count = 1 : i64, feature_group_count = \(p.groups) : i64} : \(Self.signature(inputs, [result]))")
    return name
  }

  /// The attributes of a window over [N, C, …].
  func attributes(_ w: Window, dilation: Bool) -> String {
    let rank = w.size.count + 2
    let padding = ["[0, 0]", "[0, 0]"] + (0..<w.size.count).map { "[\(w.padLow[$0]), \(w.padHigh[$0])]" }
    var text = "window_dimensions = \(MLIRLiteral.array([1, 1] + Array(w.size)))"
    text += ", window_strides = \(MLIRLiteral.array([1, 1] + Array(w.stride)))"
    if dilation { text += ", window_dilations = \(MLIRLiteral.array([1, 1] + Array(w.dilation)))" }
    return text + ", padding = dense<[\(padding.joined(separator: ", "))]> : tensor<\(rank)x2xi64>"
  }

  private func reduceWindow(
    _ operation: String, _ start: Scalar, _ window: Window, _ x: String, _ input: TensorType, _ result: TensorType
  ) -> String {
    let element = TensorType([], input.elementType)
    let initial = scalar(start, input.elementType)
    let (a, b) = ("%lhs" + fresh().dropFirst(), "%rhs" + fresh().dropFirst())
    let body = region([(a, element), (b, element)]) {
      let r = write("stablehlo." + operation, [a, b], [element, element], element)
      line("stablehlo.return \(r) : \(element.mlir)")
    }
    let name = fresh()
    line(
      "\(name) = \"stablehlo.reduce_window\"(\(x), \(initial)) \(body)) {\(attributes(window, dilation: true))} : "
        + Self.signature([input, element], [result]))
    return name
  }
}
