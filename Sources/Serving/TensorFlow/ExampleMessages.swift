import ApusIR
import ApusExport
import ApusFormats
import ApusServables
import ApusServingProtocols
import ApusTensor

extension Tensorflow_Serving_ModelSpec {
  var specification: ModelSpecification {
    var result = ModelSpecification()
    (result.name, result.signatureName) = (name, signatureName)
    switch versionChoice {
    case .version(let number): result.version = .number(Int(number.value))
    case .versionLabel(let label): result.version = .label(label)
    case nil: break
    }
    return result
  }

  init(_ model: ServedModel, signature: String) {
    self.init()
    name = model.name
    version = .with { $0.value = Int64(model.version) }
    signatureName = signature
  }
}

extension Tensorflow_Serving_Input {
  /// The examples as one tensor for each input of a signature.
  /// - Throws: ``ServingError``, `invalidArgument`, naming the feature.
  func tensors(for signature: Signature) throws(ServingError) -> (inputs: [String: Tensor], count: Int) {
    let examples: [Tensorflow_Example]
    var context: [String: Tensorflow_Feature] = [:]
    switch kind {
    case .exampleList(let list): examples = list.examples
    case .exampleListWithContext(let list):
      examples = list.examples
      context = list.context.features.feature
    case nil: examples = []
    }
    guard !examples.isEmpty else { throw ServingError(.invalidArgument, "Input is empty.") }
    var inputs: [String: Tensor] = [:]
    for input in signature.inputs {
      let name = FormatError.excerpt(input.name)
      var elements: [UInt8] = []
      var size = 0
      for (i, example) in examples.enumerated() {
        guard let feature = example.features.feature[input.name] ?? context[input.name] else {
          throw ServingError(.invalidArgument, "Feature: \(name) is missing in the example \(i)")
        }
        let count = try feature.append(to: &elements, input.spec.elementType, name: name)
        if i == 0 { size = count }
        guard count == size else {
          throw ServingError(
            .invalidArgument, "Feature: \(name) has \(count) elements in the example \(i), but \(size) in those before it")
        }
      }
      let shape = [examples.count] + (try input.exampleShape(size))
      guard shape.count <= Shape.maxRank else {
        throw ServingError(.invalidArgument, "Feature: \(name): a tensor has at most \(Shape.maxRank) dimensions")
      }
      inputs[input.name] = elements.withUnsafeBytes {
        Tensor(bytes: $0, shape: Shape(shape), elementType: input.spec.elementType)
      }
    }
    try check(inputs, against: signature)
    return (inputs, examples.count)
  }
}

extension Tensorflow_Feature {
  /// Adds the values as elements of a type, and returns how many.
  fileprivate func append(to bytes: inout [UInt8], _ type: ElementType, name: String) throws(ServingError) -> Int {
    func put<T: BitwiseCopyable>(_ value: T) { withUnsafeBytes(of: value) { bytes += $0 } }
    func unexpected(_ found: String) -> ServingError {
      ServingError(.invalidArgument, "Feature: \(name) has \(found), but the input is \(type)")
    }
    func put(number: Double) {
      switch type {
      case .float64: put(number)
      case .float16: put(HalfPrecision.float16(of: number))
      case .bfloat16: put(HalfPrecision.bfloat16(of: number))
      default: put(Float(number))
      }
    }
    switch kind {
    case .floatList(let list):
      guard type.isFloatingPoint else { throw unexpected("float values") }
      for value in list.value { put(number: Double(value)) }
      return list.value.count
    case .int64List(let list):
      for value in list.value {
        if type.isFloatingPoint {
          put(number: Double(value))
          continue
        }
        func outside() -> ServingError { ServingError(.invalidArgument, "Feature: \(name): \(value) is not within \(type)") }
        switch type {
        case .bool: put(UInt8(value == 0 ? 0 : 1))
        case .uint8:
          guard let value = UInt8(exactly: value) else { throw outside() }
          put(value)
        case .int8:
          guard let value = Int8(exactly: value) else { throw outside() }
          put(value)
        case .int16:
          guard let value = Int16(exactly: value) else { throw outside() }
          put(value)
        case .int32:
          guard let value = Int32(exactly: value) else { throw outside() }
          put(value)
        default: put(value)
        }
      }
      return list.value.count
    case .bytesList(let list):
      guard type == .uint8 else { throw unexpected("bytes") }
      for value in list.value { bytes += value }
      return list.value.reduce(0) { $0 + $1.count }
    case nil: return 0
    }
  }
}
