// Composites whose meaning is one of StableHLO's structured operations, with regions or indices in another form.

extension FunctionPrinter {
  /// Writes what `operation` means; it has no decomposition into other operations of the graph.
  func expand(_ operation: Operation, _ x: [String], _ inputs: [TensorType], _ results: [TensorType]) -> [String] {
    switch operation {
    case .dynamicSlice(let size):
      let starts = coordinates(x[1], inputs[0].shape.count)
      let types = [inputs[0]] + starts.map { _ in TensorType([], .int64) }
      return [
        write("stablehlo.dynamic_slice", [x[0]] + starts, rest: ", sizes = \(MLIRLiteral.list(size))", types, results[0])
      ]
    case .dynamicUpdateSlice:
      let starts = coordinates(x[2], inputs[0].shape.count)
      let types = Array(inputs[..<2]) + starts.map { _ in TensorType([], .int64) }
      return [write("stablehlo.dynamic_update_slice", [x[0], x[1]] + starts, types, results[0])]
    case .sort(let axis, let descending): return sort(axis, descending, x[0], inputs[0], results)
    case .gatherND: return [gatherND(x, inputs, results[0])]
    case .scatterND(let kind): return [scatterND(kind, x, inputs, results[0])]
    case .maxPoolIndices(let window): return [maxPoolIndices(window, x[0], inputs[0], results[0])]
    case .reduceWindowGradient(_, let window): return [maxPoolGradient(window, x, inputs, results[0])]
    case .unary, .binary, .compare, .select, .convert, .bitcast, .activationGradient, .fill, .iota, .random, .constant,
      .broadcast, .reshape, .transpose, .slice, .pad, .concatenate, .reverse, .triangle, .reduce, .argReduce, .scan, .topK,
      .gather, .takeAlong, .scatter, .scatterAlong, .dot, .quantizedDot, .convolution, .convolutionInputGradient,
      .convolutionKernelGradient, .reduceWindow, .stopGradient, .call, .conditional, .whileLoop, .whileLoopGradient, .scanLoop,
      .customCall, .composite:
      preconditionFailure("\(operation.name) has a decomposition or is an operation of StableHLO")
    }
  }

  /// The elements of an int64 [count] as scalars.
  private func coordinates(_ x: String, _ count: Int) -> [String] {
    let scalar = TensorType([], .int64)
    return (0..<count).map { i in
      let part = write("stablehlo.slice", [x], rest: " [\(i):\(i + 1)]", [TensorType([count], .int64)], TensorType([1], .int64))
      return write("stablehlo.reshape", [part], [TensorType([1], .int64)], scalar)
    }
  }

  private func compare(_ kind: ComparisonKind, _ a: String, _ b: String, _ type: TensorType) -> String {
    write(
      "stablehlo.compare", ["\(kind.mlir), \(a), \(b), \(type.elementType.comparison)"], [type, type],
      TensorType(type.shape, .bool))
  }

  private func logical(_ operation: String, _ a: String, _ b: String) -> String {
    let bit = TensorType([], .bool)
    return write("stablehlo.\(operation)", [a, b], [bit, bit], bit)
  }

  /// Whether a comes strictly before b; NaN counts as the largest, or with `first` as what comes first.
  private func precedes(_ a: String, _ b: String, _ element: TensorType, _ kind: ComparisonKind, nanFirst: Bool) -> String {
    let strict = compare(kind, a, b, element)
    if !element.elementType.isFloatingPoint { return strict }
    let (first, second) = nanFirst ? (a, b) : (b, a)
    let isNaN = compare(.notEqual, first, first, element)
    let isNumber = compare(.equal, second, second, element)
    return logical("or", strict, logical("and", isNaN, isNumber))
  }

  private func sort(_ axis: Int, _ descending: Bool, _ x: String, _ input: TensorType, _ results: [TensorType]) -> [String] {
    let places = fresh()
    line("\(places) = stablehlo.iota dim = \(axis) : \(results[1].mlir)")
    let (element, place) = (TensorType([], input.elementType), TensorType([], .int64))
    let body = region([("%a", element), ("%b", element), ("%i", place), ("%j", place)]) {
      let before = precedes("%a", "%b", element, descending ? .greater : .less, nanFirst: descending)
      line("stablehlo.return \(before) : tensor<i1>")
    }
    let (prefix, names) = several(2)
    line(
      "\(prefix)\"stablehlo.sort\"(\(x), \(places)) \(body)) {dimension = \(axis) : i64, is_stable = true} : "
        + Self.signature(results, results))
    return names
  }

  /// Coordinates that count from the end made to count from the start.
  private func normalized(_ indices: String, _ type: TensorType, _ x: Shape) -> String {
    let k = type.shape[type.shape.count - 1]
    let sizes = fresh()
    line("\(sizes) = stablehlo.constant dense<\(MLIRLiteral.list(x[..<k]))> : tensor<\(k)xi64>")
    let wide = write(
      "stablehlo.broadcast_in_dim", [sizes], rest: ", dims = [\(type.shape.count - 1)]", [TensorType([k], .int64)], type)
    let zero = fresh()
    line("\(zero) = stablehlo.constant dense<0> : \(type.mlir)")
    let isNegative = compare(.less, indices, zero, type)
    let moved = write("stablehlo.add", [indices, wide], [type, type], type)
    return write("stablehlo.select", [isNegative, moved, indices], [TensorType(type.shape, .bool), type, type], type)
  }

  private func gatherND(_ x: [String], _ inputs: [TensorType], _ result: TensorType) -> String {
    if result.shape.contains(0) {
      let name = fresh()
      line("\(name) = stablehlo.constant dense<\(MLIRLiteral.element(.int(0), result.elementType))> : \(result.mlir)")
      return name
    }
    let (shape, indices) = (inputs[0].shape, inputs[1])
    let (batch, k) = (indices.shape.count - 1, indices.shape[indices.shape.count - 1])
    let places = normalized(x[1], indices, shape)
    let sizes = Array(repeating: 1, count: k) + Array(shape[k...])
    let name = fresh()
    line(
      "\(name) = \"stablehlo.gather\"(\(x[0]), \(places)) {dimension_numbers = #stablehlo.gather<"
        + "offset_dims = \(MLIRLiteral.list(batch..<(batch + shape.count - k))), collapsed_slice_dims = \(MLIRLiteral.list(0..<k)), "
        + "start_index_map = \(MLIRLiteral.list(0..<k)), index_vector_dim = \(batch)>, indices_are_sorted = false, "
        + "slice_sizes = \(MLIRLiteral.array(sizes))} : \(Self.signature(inputs, [result]))")
    return name
  }

  private func scatterND(_ kind: ScatterKind, _ x: [String], _ inputs: [TensorType], _ result: TensorType) -> String {
    if inputs[2].shape.contains(0) || result.shape.contains(0) { return x[0] }
    let (shape, indices) = (inputs[0].shape, inputs[1])
    let (batch, k) = (indices.shape.count - 1, indices.shape[indices.shape.count - 1])
    let places = normalized(x[1], indices, shape)
    let element = TensorType([], result.elementType)
    let body = region([("%a", element), ("%b", element)]) {
      let value: String
      switch kind {
      case .set: value = "%b"
      case .add: value = write("stablehlo.add", ["%a", "%b"], [element, element], element)
      case .multiply: value = write("stablehlo.multiply", ["%a", "%b"], [element, element], element)
      case .max: value = write("stablehlo.maximum", ["%a", "%b"], [element, element], element)
      case .min: value = write("stablehlo.minimum", ["%a", "%b"], [element, element], element)
      }
      line("stablehlo.return \(value) : \(element.mlir)")
    }
    let name = fresh()
    line(
      "\(name) = \"stablehlo.scatter\"(\(x[0]), \(places), \(x[2])) \(body)) {scatter_dimension_numbers = #stablehlo.scatter<"
        + "update_window_dims = \(MLIRLiteral.list(batch..<(batch + shape.count - k))), inserted_window_dims = "
        + "\(MLIRLiteral.list(0..<k)), scatter_dims_to_operand_dims = \(MLIRLiteral.list(0..<k)), index_vector_dim = \(batch)>, "
        + "indices_are_sorted = false, unique_indices = false} : \(Self.signature(inputs, [result]))")
    return name
  }

  /// A window over values and positions at once.
  private func maxPoolIndices(_ window: Window, _ x: String, _ input: TensorType, _ result: TensorType) -> String {
    let spatial = Shape(input.shape[2...])
    let count = spatial.elementCount
    let line1 = fresh()
    line("\(line1) = stablehlo.iota dim = 0 : tensor<\(count)xi64>")
    let plane = write("stablehlo.reshape", [line1], [TensorType([count], .int64)], TensorType(spatial, .int64))
    let places = TensorType(input.shape, .int64)
    let all = write(
      "stablehlo.broadcast_in_dim", [plane], rest: ", dims = \(MLIRLiteral.list(2..<input.shape.count))",
      [TensorType(spatial, .int64)], places)
    let (element, place) = (TensorType([], input.elementType), TensorType([], .int64))
    let (low, last) = (scalar(input.elementType.extremes.low, input.elementType), scalar(.int(.max), .int64))
    let body = region([("%a", element), ("%i", place), ("%b", element), ("%j", place)]) {
      let greater = precedes("%b", "%a", element, .greater, nanFirst: true)
      // Neither comes before the other: the first position.
      let less = precedes("%a", "%b", element, .greater, nanFirst: true)
      let bit = TensorType([], .bool)
      let same = write("stablehlo.not", [logical("or", greater, less)], [bit], bit)
      let earlier = compare(.less, "%j", "%i", place)
      let takes = logical("or", greater, logical("and", same, earlier))
      let value = write("stablehlo.select", [takes, "%b", "%a"], [bit, element, element], element)
      let position = write("stablehlo.select", [takes, "%j", "%i"], [bit, place, place], place)
      line("stablehlo.return \(value), \(position) : \(element.mlir), \(place.mlir)")
    }
    let (prefix, names) = several(2)
    line(
      "\(prefix)\"stablehlo.reduce_window\"(\(x), \(all), \(low), \(last)) \(body)) {\(attributes(window, dilation: true))} : "
        + Self.signature([input, places, element, place], [TensorType(result.shape, input.elementType), result]))
    return names[1]
  }

  private func maxPoolGradient(_ window: Window, _ x: [String], _ inputs: [TensorType], _ result: TensorType) -> String {
    let element = TensorType([], result.elementType)
    let zero = scalar(.int(0), result.elementType)
    let bit = TensorType([], .bool)
    let select = region([("%a", element), ("%b", element)]) {
      let isGreater = compare(.greaterEqual, "%a", "%b", element)
      let isNaN = compare(.notEqual, "%a", "%a", element)
      let keeps = write("stablehlo.or", [isGreater, isNaN], [bit, bit], bit)
      line("stablehlo.return \(keeps) : \(bit.mlir)")
    }
    let scatter = region([("%c", element), ("%d", element)]) {
      let sum = write("stablehlo.add", ["%c", "%d"], [element, element], element)
      line("stablehlo.return \(sum) : \(element.mlir)")
    }
    let name = fresh()
    line(
      "\(name) = \"stablehlo.select_and_scatter\"(\(x[0]), \(x[1]), \(zero)) \(select), \(scatter.dropFirst())) "
        + "{\(attributes(window, dilation: false))} : \(Self.signature([inputs[0], inputs[1], element], [result]))")
    return name
  }
}
