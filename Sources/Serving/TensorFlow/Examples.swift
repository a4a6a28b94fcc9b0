import ApusExport
import ApusFormats
import ApusServables
import ApusTensor
import NIOCore

extension ServedModel {
  /// Names of the classes: those that were configured, else those that the model came with.
  var classLabels: [String]? { configuration.classLabels ?? servable.classLabels }
}

extension Signature.Input {
  /// The shape of one example of so many elements; a feature is a flat list.
  /// - Throws: ``ServingError``, `invalidArgument`.
  func exampleShape(_ count: Int) throws(ServingError) -> [Int] {
    let name = FormatError.excerpt(name)
    guard !spec.dimensions.isEmpty else {
      throw ServingError(.invalidArgument, "the input '\(name)' has no dimension for examples, and so takes no features")
    }
    var shape = spec.dimensions.dropFirst().map(\.sizeOrOpen)
    let open = shape.indices.filter { shape[$0] < 0 }
    let fixed = shape.reduce(1) { $1 < 0 ? $0 : $0.multipliedReportingOverflow(by: $1).partialValue }
    if open.count == 1, fixed > 0, count % fixed == 0 { shape[open[0]] = count / fixed }
    guard !shape.contains(where: { $0 < 0 }), shape.reduce(1, { $0.multipliedReportingOverflow(by: $1).partialValue }) == count
    else {
      throw ServingError(.invalidArgument, "Feature: \(name) has \(count) elements, but an example of the input is \(spec)")
    }
    return shape
  }
}

/// The body of `:classify` and `:regress`: examples with named features, which become one tensor for each input of their name.
struct ExamplesJSON {
  var signatureName: String
  var inputs: [String: Tensor]
  /// Examples.
  var count: Int

  /// - Throws: ``ServingError``, `invalidArgument`, with TensorFlow Serving's texts where it has one.
  static func read(_ body: ByteBuffer, _ model: ServedModel, limits: ServingLimits) throws(ServingError) -> ExamplesJSON {
    guard body.readableBytes > 0 else { throw ServingError(.invalidArgument, "JSON Parse error: The document is empty") }
    func wrong(_ message: String) -> ServingError {
      ServingError(
        .invalidArgument, "JSON Value: \(String(decoding: body.readableBytesView.prefix(256), as: UTF8.self)) \(message)")
    }
    // Keys come in any order, and what the context says holds for every example: where they are is found out first.
    return try body.scanJSON(maxDepth: limits.maxDepth) { scanner throws(ServingError) in
      guard try scanner.kind() == .object else { throw wrong("Is not object") }
      var name: String?
      var (context, examples): (JSONScanner?, JSONScanner?) = (nil, nil)
      try scanner.beginObject()
      while let key = try scanner.nextKey() {
        let kind = try scanner.kind()
        switch key {
        case "signature_name":
          guard kind == .string else { throw wrong("not formatted correctly. 'signature_name' key must be a string value.") }
          name = try scanner.string()
          continue
        case "context":
          guard kind == .object else {
            throw ServingError(.invalidArgument, "Example must be JSON object but got JSON \(kind.typeName)")
          }
          context = scanner
        case "examples":
          guard kind == .array else { throw wrong("Expecting 'examples' value to be an list/array") }
          examples = scanner
        default: break
        }
        try scanner.skipValue()
      }
      guard var examples else { throw wrong("When method is classify, key 'examples' is expected and was not found") }
      let (signatureName, signature) = try model.tensorFlowSignature(name)
      let features = signature.inputs.map { Feature($0, limit: model.configuration.maxRequestBytes) }
      if var context { try read(&context, features) { $0.context = $1 } }
      try examples.beginArray()
      var count = 0
      while try examples.nextElement() {
        let kind = try examples.kind()
        guard kind == .object else {
          throw ServingError(.invalidArgument, "Example must be JSON object but got JSON \(kind.typeName)")
        }
        try read(&examples, features) { (feature, scanner) throws(ServingError) in
          var scanner = scanner
          try feature.append(&scanner)
        }
        count += 1
        for feature in features where feature.count < count {
          guard var context = feature.context else {
            throw ServingError(
              .invalidArgument, "Feature: \(FormatError.excerpt(feature.input.name)) is missing in the example \(count - 1)")
          }
          try feature.append(&context)
        }
      }
      guard count > 0 else { throw wrong("'examples' value is an empty array") }
      var result = ExamplesJSON(signatureName: signatureName, inputs: [:], count: count)
      for feature in features {
        result.inputs[feature.input.name] = try feature.elements.tensor([count] + feature.input.exampleShape(feature.size))
      }
      try check(result.inputs, against: signature)
      return result
    }
  }

  /// Reads an object of features, and hands those over that are inputs.
  private static func read(
    _ scanner: inout JSONScanner, _ features: [Feature], _ body: (Feature, JSONScanner) throws(ServingError) -> Void
  ) throws(ServingError) {
    try scanner.beginObject()
    while let key = try scanner.nextKey() {
      if let feature = features.first(where: { $0.input.name == key }) { try body(feature, scanner) }
      try scanner.skipValue()
    }
  }

  /// An input's values, example by example.
  private final class Feature {
    let input: Signature.Input
    var elements: JSONElements
    /// Where the context has its value.
    var context: JSONScanner?
    /// Examples, and elements of each.
    var (count, size) = (0, 0)

    init(_ input: Signature.Input, limit: Int) {
      self.input = input
      elements = JSONElements(input.spec.elementType, name: input.name, limit: limit, readsBytes: true)
    }

    func append(_ scanner: inout JSONScanner) throws(ServingError) {
      let shape = try elements.append(from: &scanner)
      let name = FormatError.excerpt(input.name)
      guard shape.count <= 1 else {
        throw ServingError(.invalidArgument, "Feature: \(name) has element with unexpected JSON type: Array")
      }
      let size = shape.first ?? 1
      if count == 0 { self.size = size }
      guard size == self.size else {
        throw ServingError(
          .invalidArgument, "Feature: \(name) has \(size) elements in the example \(count), but \(self.size) in those before it")
      }
      count += 1
    }
  }
}

extension JSONScanner.Kind {
  /// RapidJSON's name.
  fileprivate var typeName: String {
    switch self {
    case .object: "Object"
    case .array: "Array"
    case .string: "String"
    case .number: "Number"
    case .bool: "Bool"
    case .null: "Null"
    }
  }
}

/// The classes of examples, and a score for each.
struct Classification {
  let classCount: Int
  /// Row by row.
  let scores: [Float]
  private let classes: [Int]?
  private let labels: [String]?

  /// Finds the scores among a model's outputs: the one that is called `scores`, `probabilities` or `output`, else the only one with
  /// fractions. `classes`, integers, may say which class each score is for; else they are in order.
  /// - Throws: ``ServingError``, `invalidArgument`.
  init(_ outputs: [(name: String, tensor: Tensor)], examples: Int, labels: [String]?) throws(ServingError) {
    guard let scores = onlyFloats(outputs, named: ["scores", "probabilities", "output"]) else {
      throw ServingError(
        .invalidArgument,
        "Expected classification signature outputs to contain at least one of \"classes\" or \"scores\". Signature was: "
          + outputs.map { FormatError.excerpt($0.name) }.joined(separator: ", "))
    }
    let shape = Array(scores.shape)
    guard shape.count == 2 || shape.count == 1 else {
      throw ServingError(.invalidArgument, "Expected Tensor shape: [batch_size num_classes] but got \(shape)")
    }
    guard shape[0] == examples else {
      throw ServingError(.invalidArgument, "Expected scores output batch size of \(examples). Got: \(shape[0])")
    }
    classCount = shape.count == 2 ? shape[1] : 1
    self.scores = scores.converted(to: .float32).floats
    self.labels = labels
    if let classes = outputs.first(where: { $0.name == "classes" && $0.tensor.elementType.isInteger })?.tensor {
      guard Array(classes.shape) == shape else {
        throw ServingError(
          .invalidArgument, "Tensors class and score should match in dim_size(1). Got \(Array(classes.shape)) vs. \(shape)")
      }
      self.classes = classes.converted(to: .int64).elements(as: Int.self)
    } else {
      classes = nil
    }
  }

  /// The name of the class that a score is for; its number, if it has none.
  func label(_ row: Int, _ column: Int) -> String {
    let index = classes?[row * classCount + column] ?? column
    guard let labels, labels.indices.contains(index) else { return "\(index)" }
    return labels[index]
  }
}

/// The predicted number of each example: the output that is called `outputs` or `output`, else the only one with fractions.
/// - Throws: ``ServingError``, `invalidArgument`.
func regressions(_ outputs: [(name: String, tensor: Tensor)], examples: Int) throws(ServingError) -> [Float] {
  guard let values = onlyFloats(outputs, named: ["outputs", "output"]) else {
    throw ServingError(
      .invalidArgument,
      "No regression outputs found in SignatureDef: " + outputs.map { FormatError.excerpt($0.name) }.joined(separator: ", "))
  }
  let shape = Array(values.shape)
  guard shape.count == 1 || (shape.count == 2 && shape[1] == 1) else {
    throw ServingError(
      .invalidArgument, "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got \(shape)")
  }
  guard shape[0] == examples else {
    throw ServingError(.invalidArgument, "Input batch size did not match output batch size: \(examples) vs. \(shape[0])")
  }
  return values.converted(to: .float32).floats
}

private func onlyFloats(_ outputs: [(name: String, tensor: Tensor)], named names: [String]) -> Tensor? {
  let floats = outputs.filter { $0.tensor.elementType.isFloatingPoint }
  for name in names { if let found = floats.first(where: { $0.name == name }) { return found.tensor } }
  return floats.count == 1 ? floats[0].tensor : nil
}
