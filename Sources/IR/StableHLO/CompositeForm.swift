// Operations as `stablehlo.composite`: a name and attributes that say all there is to know, written and read here.

/// What stands in a composite's attributes.
enum TextAttribute: Sendable, Hashable {
  case int(Int)
  case double(Double)
  case bool(Bool)
  case string(String)
  case ints([Int])
  case symbol(String)
}

/// `stablehlo.composite "apus.NAME" … {composite_attributes = {…}}`.
struct CompositeForm {
  static let prefix = "apus."

  var name: String
  var attributes: [(String, TextAttribute)]

  init(_ name: String, _ attributes: [(String, TextAttribute)] = []) {
    self.name = name
    self.attributes = attributes
  }
}

extension Operation {
  /// The operation as a composite; nil for control flow with functions inside that StableHLO has, and constants.
  /// - Parameter symbol: the name in the text of a function.
  func compositeForm(_ symbol: (Function) -> String) -> CompositeForm? {
    func list(_ x: Shape) -> TextAttribute { .ints(Array(x)) }
    switch self {
    case .unary(let kind): return CompositeForm("\(kind)")
    case .binary(let kind): return CompositeForm("\(kind)")
    case .bitcast(let type): return CompositeForm("bitcast", [("type", .string(type.name))])
    case .activationGradient(let kind): return CompositeForm("\(kind)Gradient")
    case .random(let p):
      return CompositeForm("random", p.kind.attributes + [("shape", list(p.shape)), ("type", .string(p.elementType.name))])
    case .dynamicSlice(let size): return CompositeForm("dynamicSlice", [("size", list(size))])
    case .dynamicUpdateSlice: return CompositeForm("dynamicUpdateSlice")
    case .triangle(let upper, let diagonal):
      return CompositeForm("triangle", [("upper", .bool(upper)), ("diagonal", .int(diagonal))])
    case .reduce(let kind, let axes, let keepDims):
      return CompositeForm("reduce", [("kind", .string("\(kind)")), ("axes", list(axes)), ("keepDims", .bool(keepDims))])
    case .argReduce(let kind, let axis, let keepDims):
      return CompositeForm("argReduce", [("kind", .string("\(kind)")), ("axis", .int(axis)), ("keepDims", .bool(keepDims))])
    case .scan(let kind, let axis, let reverse, let exclusive):
      return CompositeForm(
        "scan",
        [("kind", .string("\(kind)")), ("axis", .int(axis)), ("reverse", .bool(reverse)), ("exclusive", .bool(exclusive))])
    case .sort(let axis, let descending): return CompositeForm("sort", [("axis", .int(axis)), ("descending", .bool(descending))])
    case .topK(let k, let axis, let largest):
      return CompositeForm("topK", [("k", .int(k)), ("axis", .int(axis)), ("largest", .bool(largest))])
    case .gather(let axis): return CompositeForm("gather", [("axis", .int(axis))])
    case .takeAlong(let axis): return CompositeForm("takeAlong", [("axis", .int(axis))])
    case .gatherND: return CompositeForm("gatherND")
    case .scatter(let kind, let axis): return CompositeForm("scatter", [("kind", .string("\(kind)")), ("axis", .int(axis))])
    case .scatterAlong(let kind, let axis):
      return CompositeForm("scatterAlong", [("kind", .string("\(kind)")), ("axis", .int(axis))])
    case .scatterND(let kind): return CompositeForm("scatterND", [("kind", .string("\(kind)"))])
    case .quantizedDot: return CompositeForm("quantizedDot")
    case .convolution(let p): return CompositeForm("convolution", p.attributes)
    case .convolutionInputGradient(let p, let size):
      return CompositeForm("convolutionInputGradient", p.attributes + [("inputSize", list(size))])
    case .convolutionKernelGradient(let p, let size):
      return CompositeForm("convolutionKernelGradient", p.attributes + [("kernelSize", list(size))])
    case .reduceWindow(let kind, let window):
      return CompositeForm("reduceWindow", [("kind", .string("\(kind)"))] + window.attributes)
    case .reduceWindowGradient(let kind, let window):
      return CompositeForm("reduceWindowGradient", [("kind", .string("\(kind)"))] + window.attributes)
    case .maxPoolIndices(let window): return CompositeForm("maxPoolIndices", window.attributes)
    case .stopGradient: return CompositeForm("stopGradient")
    case .call(let function): return function.role == .fusion ? CompositeForm("fusion") : nil
    case .whileLoopGradient(let loop, let pullback):
      return CompositeForm(
        "whileLoopGradient",
        [
          ("condition", .symbol(symbol(loop.condition))), ("body", .symbol(symbol(loop.body))),
          ("pullback", .symbol(symbol(pullback))), ("carried", .int(loop.carried)),
        ])
    case .scanLoop(let loop):
      return CompositeForm(
        "scanLoop",
        [
          ("body", .symbol(symbol(loop.body))), ("carried", .int(loop.carried)), ("sequences", .int(loop.sequences)),
          ("length", .int(loop.length)), ("reverse", .bool(loop.reverse)),
        ])
    case .composite(let composite): return CompositeForm(composite.name, composite.attributes)
    case .compare, .select, .convert, .fill, .iota, .constant, .broadcast, .reshape, .transpose, .slice, .pad, .concatenate,
      .reverse, .dot, .conditional, .whileLoop, .customCall:
      return nil
    }
  }
}

extension RandomParameters.Kind {
  fileprivate var attributes: [(String, TextAttribute)] {
    switch self {
    case .uniform(let low, let high): [("kind", .string("uniform")), ("low", .double(low)), ("high", .double(high))]
    case .normal(let mean, let deviation):
      [("kind", .string("normal")), ("mean", .double(mean)), ("deviation", .double(deviation))]
    case .truncatedNormal(let mean, let deviation, let low, let high):
      [
        ("kind", .string("truncatedNormal")), ("mean", .double(mean)), ("deviation", .double(deviation)), ("low", .double(low)),
        ("high", .double(high)),
      ]
    case .bernoulli(let probability): [("kind", .string("bernoulli")), ("probability", .double(probability))]
    case .integers(let low, let high): [("kind", .string("integers")), ("low", .int(low)), ("high", .int(high))]
    case .permutation: [("kind", .string("permutation"))]
    case .bits: [("kind", .string("bits"))]
    }
  }

  fileprivate init(_ a: AttributeReader) throws(GraphTextError) {
    switch try a.string("kind") {
    case "uniform": self = .uniform(low: try a.double("low"), high: try a.double("high"))
    case "normal": self = .normal(mean: try a.double("mean"), standardDeviation: try a.double("deviation"))
    case "truncatedNormal":
      self = .truncatedNormal(
        mean: try a.double("mean"), standardDeviation: try a.double("deviation"), low: try a.double("low"),
        high: try a.double("high"))
    case "bernoulli": self = .bernoulli(probability: try a.double("probability"))
    case "integers": self = .integers(low: try a.int("low", anySize: true), high: try a.int("high", anySize: true))
    case "permutation": self = .permutation
    case "bits": self = .bits
    case let kind: throw a.error("\(kind) is no kind of random numbers")
    }
  }
}

extension ConvolutionParameters {
  fileprivate var attributes: [(String, TextAttribute)] {
    [
      ("stride", .ints(Array(stride))), ("padLow", .ints(Array(padLow))), ("padHigh", .ints(Array(padHigh))),
      ("kernelDilation", .ints(Array(kernelDilation))), ("inputDilation", .ints(Array(inputDilation))), ("groups", .int(groups)),
    ]
  }

  fileprivate init(_ a: AttributeReader) throws(GraphTextError) {
    self.init(
      stride: try a.small("stride"), padLow: try a.small("padLow"), padHigh: try a.small("padHigh"),
      kernelDilation: try a.small("kernelDilation"), inputDilation: try a.small("inputDilation"), groups: try a.int("groups"))
  }
}

extension Window {
  fileprivate var attributes: [(String, TextAttribute)] {
    [
      ("size", .ints(Array(size))), ("stride", .ints(Array(stride))), ("padLow", .ints(Array(padLow))),
      ("padHigh", .ints(Array(padHigh))), ("dilation", .ints(Array(dilation))),
    ]
  }

  fileprivate init(_ a: AttributeReader) throws(GraphTextError) {
    self.init(
      size: try a.small("size"), stride: try a.small("stride"), padLow: try a.small("padLow"), padHigh: try a.small("padHigh"),
      dilation: try a.small("dilation"))
  }
}

extension Composite {
  fileprivate var attributes: [(String, TextAttribute)] {
    switch self {
    case .softmax, .logSoftmax, .softmaxGradient, .logSoftmaxGradient, .layerNormGradient, .rmsNormGradient, .linear, .lstmCell,
      .lstmCellGradient, .gruCell, .gruCellGradient:
      []
    case .layerNorm(let epsilon), .rmsNorm(let epsilon), .batchNorm(let epsilon), .batchNormGradient(let epsilon),
      .batchNormInference(let epsilon):
      [("epsilon", .double(epsilon))]
    case .softmaxCrossEntropy(let ignoreIndex, let smoothing), .softmaxCrossEntropyGradient(let ignoreIndex, let smoothing):
      [("ignoreIndex", .int(ignoreIndex)), ("labelSmoothing", .double(smoothing))]
    case .attention(let scale, let causal): [("scale", .double(scale)), ("causal", .bool(causal))]
    case .attentionGradient(let scale, let causal, let forMask):
      [("scale", .double(scale)), ("causal", .bool(causal)), ("forMask", .bool(forMask))]
    case .rope(let interleaved, let inverse): [("interleaved", .bool(interleaved)), ("inverse", .bool(inverse))]
    case .recurrentSequence(let sequence, let keeps): [("reverse", .bool(sequence.reverse)), ("keeps", .bool(keeps))]
    case .recurrentSequenceGradient(let sequence): [("reverse", .bool(sequence.reverse))]
    case .optimizerStep(let r):
      [
        ("momentum", .double(r.momentum)), ("dampening", .double(r.dampening)), ("beta1", .double(r.beta1)),
        ("beta2", .double(r.beta2)), ("epsilon", .double(r.epsilon)), ("nesterov", .bool(r.nesterov)),
        ("decoupledWeightDecay", .bool(r.decoupledWeightDecay)), ("amsgrad", .bool(r.amsgrad)), ("centered", .bool(r.centered)),
        ("maximize", .bool(r.maximize)),
      ]
    }
  }

  fileprivate init?(name: String, _ a: AttributeReader) throws(GraphTextError) {
    switch name {
    case "softmax": self = .softmax
    case "logSoftmax": self = .logSoftmax
    case "softmaxGradient": self = .softmaxGradient
    case "logSoftmaxGradient": self = .logSoftmaxGradient
    case "layerNorm": self = .layerNorm(epsilon: try a.double("epsilon"))
    case "layerNormGradient": self = .layerNormGradient
    case "rmsNorm": self = .rmsNorm(epsilon: try a.double("epsilon"))
    case "rmsNormGradient": self = .rmsNormGradient
    case "batchNorm": self = .batchNorm(epsilon: try a.double("epsilon"))
    case "batchNormGradient": self = .batchNormGradient(epsilon: try a.double("epsilon"))
    case "batchNormInference": self = .batchNormInference(epsilon: try a.double("epsilon"))
    case "softmaxCrossEntropy":
      self = .softmaxCrossEntropy(
        ignoreIndex: try a.int("ignoreIndex", anySize: true), labelSmoothing: try a.double("labelSmoothing"))
    case "softmaxCrossEntropyGradient":
      self = .softmaxCrossEntropyGradient(
        ignoreIndex: try a.int("ignoreIndex", anySize: true), labelSmoothing: try a.double("labelSmoothing"))
    case "linear": self = .linear
    case "attention": self = .attention(scale: try a.double("scale"), causal: try a.bool("causal"))
    case "attentionGradient":
      self = .attentionGradient(scale: try a.double("scale"), causal: try a.bool("causal"), forMask: try a.bool("forMask"))
    case "rope": self = .rope(interleaved: try a.bool("interleaved"), inverse: try a.bool("inverse"))
    case "lstmCell": self = .lstmCell
    case "lstmCellGradient": self = .lstmCellGradient
    case "gruCell": self = .gruCell
    case "gruCellGradient": self = .gruCellGradient
    case "lstmSequence", "gruSequence", "tanhSequence", "reluSequence", "lstmSequenceGradient", "gruSequenceGradient",
      "tanhSequenceGradient", "reluSequenceGradient":
      guard let kind = RecurrentSequence.Kind.allCases.first(where: { name.hasPrefix("\($0)Sequence") }) else { return nil }
      let sequence = RecurrentSequence(kind, reverse: try a.bool("reverse"))
      self =
        name.hasSuffix("Gradient")
        ? .recurrentSequenceGradient(sequence) : .recurrentSequence(sequence, keeps: try a.bool("keeps"))
    case _ where name.hasSuffix("Step"):
      guard let kind = OptimizerRule.Kind(rawValue: String(name.dropLast(4))) else { return nil }
      var rule = OptimizerRule(kind)
      rule.momentum = try a.double("momentum")
      rule.dampening = try a.double("dampening")
      rule.beta1 = try a.double("beta1")
      rule.beta2 = try a.double("beta2")
      rule.epsilon = try a.double("epsilon")
      rule.nesterov = try a.bool("nesterov")
      rule.decoupledWeightDecay = try a.bool("decoupledWeightDecay")
      rule.amsgrad = try a.bool("amsgrad")
      rule.centered = try a.bool("centered")
      rule.maximize = try a.bool("maximize")
      self = .optimizerStep(rule)
    default: return nil
    }
  }
}

/// A composite's attributes while it is read.
struct AttributeReader {
  let attributes: [String: TextAttribute]
  let composite: String
  /// Where it stands; counted only when something is wrong.
  let position: () -> TextPosition

  func error(_ message: String) -> GraphTextError { GraphTextError(position(), "\(composite): \(message)") }

  private func missing(_ name: String, _ what: String) -> GraphTextError { error("needs the attribute \(name), \(what)") }

  /// Numbers about shapes are limited so that sums and products of them fit.
  func int(_ name: String, anySize: Bool = false) throws(GraphTextError) -> Int {
    guard case .int(let value)? = attributes[name] else { throw missing(name, "an integer") }
    guard anySize || abs(Double(value)) <= Double(TextLimits.size) else { throw error("\(name) = \(value) is too large") }
    return value
  }

  func double(_ name: String) throws(GraphTextError) -> Double {
    switch attributes[name] {
    case .double(let value)?: return value
    case .int(let value)?: return Double(value)
    case .bool, .string, .ints, .symbol, nil: throw missing(name, "a number")
    }
  }

  func bool(_ name: String) throws(GraphTextError) -> Bool {
    guard case .bool(let value)? = attributes[name] else { throw missing(name, "true or false") }
    return value
  }

  func string(_ name: String) throws(GraphTextError) -> String {
    guard case .string(let value)? = attributes[name] else { throw missing(name, "a string") }
    return value
  }

  func symbol(_ name: String) throws(GraphTextError) -> String {
    guard case .symbol(let value)? = attributes[name] else { throw missing(name, "a function") }
    return value
  }

  func shape(_ name: String, limit: Int = TextLimits.size) throws(GraphTextError) -> Shape {
    guard case .ints(let values)? = attributes[name] else { throw missing(name, "a list of integers") }
    guard values.count <= Shape.maxRank else {
      throw error("\(name) has \(values.count) numbers; at most \(Shape.maxRank) are possible")
    }
    for value in values where abs(Double(value)) > Double(limit) { throw error("\(name) = \(values) has too large a number") }
    return Shape(values)
  }

  /// Strides, paddings and dilations.
  func small(_ name: String) throws(GraphTextError) -> Shape { try shape(name, limit: TextLimits.step) }

  func type(_ name: String) throws(GraphTextError) -> ElementType {
    let text = try string(name)
    guard let type = ElementType.allCases.first(where: { $0.name == text }) else { throw error("\(text) is no element type") }
    return type
  }

  func kind<Kind: CaseIterable>(_ name: String, _ kinds: Kind.Type) throws(GraphTextError) -> Kind {
    let text = try string(name)
    guard let kind = Kind.allCases.first(where: { "\($0)" == text }) else { throw error("\(text) is unknown") }
    return kind
  }
}

extension Operation {
  /// The operation that ``compositeForm(_:)`` wrote, without its prefix; nil if it is none of ours.
  /// - Parameter function: finds a function by its name in the text.
  init?(
    composite name: String, _ a: AttributeReader, function: (String) throws(GraphTextError) -> Function
  ) throws(GraphTextError) {
    if let kind = UnaryKind.allCases.first(where: { "\($0)" == name }) {
      self = .unary(kind)
      return
    }
    if let kind = BinaryKind.allCases.first(where: { "\($0)" == name }) {
      self = .binary(kind)
      return
    }
    if let kind = ActivationKind.allCases.first(where: { "\($0)Gradient" == name }) {
      self = .activationGradient(kind)
      return
    }
    switch name {
    case "bitcast": self = .bitcast(try a.type("type"))
    case "random":
      self = .random(RandomParameters(try RandomParameters.Kind(a), try a.shape("shape"), try a.type("type")))
    case "dynamicSlice": self = .dynamicSlice(size: try a.shape("size"))
    case "dynamicUpdateSlice": self = .dynamicUpdateSlice
    case "triangle": self = .triangle(upper: try a.bool("upper"), diagonal: try a.int("diagonal"))
    case "reduce":
      self = .reduce(try a.kind("kind", ReductionKind.self), try a.shape("axes"), keepDims: try a.bool("keepDims"))
    case "argReduce":
      self = .argReduce(try a.kind("kind", ArgReductionKind.self), axis: try a.int("axis"), keepDims: try a.bool("keepDims"))
    case "scan":
      self = .scan(
        try a.kind("kind", ScanKind.self), axis: try a.int("axis"), reverse: try a.bool("reverse"),
        exclusive: try a.bool("exclusive"))
    case "sort": self = .sort(axis: try a.int("axis"), descending: try a.bool("descending"))
    case "topK": self = .topK(k: try a.int("k"), axis: try a.int("axis"), largest: try a.bool("largest"))
    case "gather": self = .gather(axis: try a.int("axis"))
    case "takeAlong": self = .takeAlong(axis: try a.int("axis"))
    case "gatherND": self = .gatherND
    case "scatter": self = .scatter(try a.kind("kind", ScatterKind.self), axis: try a.int("axis"))
    case "scatterAlong": self = .scatterAlong(try a.kind("kind", ScatterKind.self), axis: try a.int("axis"))
    case "scatterND": self = .scatterND(try a.kind("kind", ScatterKind.self))
    case "quantizedDot": self = .quantizedDot
    case "convolution": self = .convolution(try ConvolutionParameters(a))
    case "convolutionInputGradient":
      self = .convolutionInputGradient(try ConvolutionParameters(a), inputSize: try a.shape("inputSize"))
    case "convolutionKernelGradient":
      self = .convolutionKernelGradient(try ConvolutionParameters(a), kernelSize: try a.shape("kernelSize"))
    case "reduceWindow": self = .reduceWindow(try a.kind("kind", WindowReductionKind.self), try Window(a))
    case "reduceWindowGradient": self = .reduceWindowGradient(try a.kind("kind", WindowReductionKind.self), try Window(a))
    case "maxPoolIndices": self = .maxPoolIndices(try Window(a))
    case "stopGradient": self = .stopGradient
    case "whileLoopGradient":
      let loop = WhileLoop(
        condition: try function(try a.symbol("condition")), body: try function(try a.symbol("body")),
        carried: try a.int("carried"))
      self = .whileLoopGradient(loop, pullback: try function(try a.symbol("pullback")))
    case "scanLoop":
      self = .scanLoop(
        ScanLoop(
          body: try function(try a.symbol("body")), carried: try a.int("carried"), sequences: try a.int("sequences"),
          length: try a.int("length"), reverse: try a.bool("reverse")))
    default:
      guard let composite = try Composite(name: name, a) else { return nil }
      self = .composite(composite)
    }
  }
}
