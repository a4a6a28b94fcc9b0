import ApusExport
import ApusFormats
import ApusTensor

/// Checks tensors against what a signature takes: names, element types, shapes, and that open dimensions agree and are within
/// their bounds. Nothing is run.
/// - Throws: ``ServingError``, `invalidArgument`, naming the input, what it must be and what it is.
public func check(_ inputs: [String: Tensor], against signature: Signature) throws(ServingError) {
  _ = try openSizes(inputs, of: signature)
}

/// Checks one input: its element type and shape; open dimensions by their bounds alone.
/// - Throws: ``ServingError``, `invalidArgument`.
public func check(_ shape: Shape, _ elementType: ElementType, against input: Signature.Input) throws(ServingError) {
  let spec = input.spec
  func wrong() -> ServingError {
    ServingError(
      .invalidArgument,
      "the input '\(FormatError.excerpt(input.name))' must be \(spec), got \(TensorType(shape, elementType))")
  }
  guard elementType == spec.elementType, shape.count == spec.dimensions.count else { throw wrong() }
  for (i, dimension) in spec.dimensions.enumerated() {
    switch dimension {
    case .fixed(let size): if shape[i] != size { throw wrong() }
    case .open(let name, let bounds):
      if !bounds.contains(shape[i]) {
        throw ServingError(
          .invalidArgument,
          "the input '\(FormatError.excerpt(input.name))': its dimension \(i), '\(FormatError.excerpt(name))', must be "
            + "\(bounds.words), got \(shape[i])")
      }
    }
  }
}

/// The sizes that inputs give the open dimensions, in the signature's order; those that no input has are 1.
func openSizes(_ inputs: [String: Tensor], of signature: Signature) throws(ServingError) -> [Int] {
  var sizes = [Int](repeating: -1, count: signature.openDimensions.count)
  var found = 0
  for input in signature.inputs {
    guard let tensor = inputs[input.name] else {
      throw ServingError(.invalidArgument, "the input '\(FormatError.excerpt(input.name))', \(input.spec), is missing")
    }
    found += 1
    let shape = tensor.shape
    guard tensor.isConcrete else {
      throw ServingError(.invalidArgument, "the input '\(FormatError.excerpt(input.name))' is being traced and has no values")
    }
    try check(shape, tensor.elementType, against: input)
    for (i, dimension) in input.spec.dimensions.enumerated() {
      guard case .open(let name, _) = dimension,
        let axis = signature.openDimensions.firstIndex(where: { $0.name == name })
      else { continue }
      let size = shape[i]
      if sizes[axis] >= 0, sizes[axis] != size {
        let other = signature.inputs.first { other in
          other.spec.dimensions.contains { if case .open(name, _) = $0 { true } else { false } }
        }
        throw ServingError(
          .invalidArgument,
          "the input '\(FormatError.excerpt(input.name))': its dimension \(i), '\(FormatError.excerpt(name))', is \(size), but "
            + "\(sizes[axis]) in '\(FormatError.excerpt(other?.name ?? ""))'")
      }
      // The dimension's own bounds may be narrower than those that an input's spec repeats.
      let bounds = signature.openDimensions[axis].sizes
      if !bounds.contains(size) {
        throw ServingError(
          .invalidArgument,
          "the input '\(FormatError.excerpt(input.name))': its dimension \(i), '\(FormatError.excerpt(name))', must be "
            + "\(bounds.words), got \(size)")
      }
      sizes[axis] = size
    }
  }
  if found != inputs.count {
    let known = signature.inputs.map(\.name)
    let unknown = inputs.keys.filter { !known.contains($0) }.min() ?? ""
    throw ServingError(.invalidArgument, "there is no input '\(FormatError.excerpt(unknown))'" + meant(unknown, known))
  }
  for i in sizes.indices where sizes[i] < 0 { sizes[i] = 1 }
  return sizes
}

/// Checks the names of outputs that a request wants.
func check(outputs wanted: [String], of signature: Signature) throws(ServingError) {
  for name in wanted where !signature.outputs.contains(where: { $0.name == name }) {
    throw ServingError(
      .invalidArgument, "there is no output '\(FormatError.excerpt(name))'" + meant(name, signature.outputs.map(\.name)))
  }
}

/// The rest of a sentence that says a name is unknown.
private func meant(_ name: String, _ known: [String]) -> String {
  if known.isEmpty { return "; there are none" }
  let near = nearName(name, in: known).map { " (did you mean '\(FormatError.excerpt($0))'?)" } ?? ""
  let list = known.prefix(20).map { FormatError.excerpt($0) }.joined(separator: ", ")
  return near + "; there \(known.count == 1 ? "is" : "are") \(list)" + (known.count > 20 ? ", …" : "")
}

extension ClosedRange<Int> {
  fileprivate var words: String {
    upperBound >= Dimension.largest
      ? "at least \(lowerBound)" : lowerBound == upperBound ? "\(lowerBound)" : "from \(lowerBound) to \(upperBound)"
  }
}
