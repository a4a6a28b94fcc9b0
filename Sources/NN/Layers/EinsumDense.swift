import ApusTensor

/// A dense layer whose product is an ``einsum(_:_:)`` equation of the input and a kernel.
///
/// ```swift
/// EinsumDense("abc,cd->abd", outputShape: [nil, 64], biasAxes: "d")    // [batch, b, c] → [batch, b, 64]
/// EinsumDense("...x,xy->...y", outputShape: [64], biasAxes: "y")       // any number of dimensions in between
/// ```
/// Parameters: kernel, of the sizes that the equation's second operand has; bias, of the output's dimensions from the first of
/// `biasAxes` on, 1 for those that are not named. The kernel is initially uniform with variance 2 / (fan in + fan out)
/// (Glorot and Bengio 2010), where dimensions that only the input has are inputs; the bias is zero.
public final class EinsumDense: Module, Layer {
  public let equation: String
  public let outputShape: [Int?]
  public let biasAxes: String?
  private let elementType: ElementType?
  private let generator: Generator
  private let terms: Terms
  private var kernelIfBuilt: Parameter?
  public private(set) var bias: Parameter?

  /// The letters of input, kernel and output, and on which side the input's and output's ellipsis is.
  private struct Terms {
    var input, kernel, output: [Character]
    var isLeftOpen = false
    var isRightOpen = false

    init?(_ equation: String) {
      let parts = equation.filter { $0 != " " }.split(separator: ",", omittingEmptySubsequences: false)
      guard parts.count == 2, let arrow = parts[1].firstRange(of: "->") else { return nil }
      var (left, right) = (parts[0], parts[1][arrow.upperBound...])
      if left.hasPrefix("...") && right.hasPrefix("...") {
        isLeftOpen = true
        (left, right) = (left.dropFirst(3), right.dropFirst(3))
      } else if left.hasSuffix("...") && right.hasSuffix("...") {
        isRightOpen = true
        (left, right) = (left.dropLast(3), right.dropLast(3))
      }
      (input, kernel, output) = (Array(left), Array(parts[1][..<arrow.lowerBound]), Array(right))
      let all = input + kernel + output
      guard !input.isEmpty, !kernel.isEmpty, !output.isEmpty, all.allSatisfy({ $0.isASCII && $0.isLetter }) else { return nil }
      guard output.allSatisfy({ input.contains($0) || kernel.contains($0) }) else { return nil }
      guard kernel.allSatisfy({ input.contains($0) || output.contains($0) }) else { return nil }
    }
  }

  /// - Parameters:
  ///   - equation: `input,kernel->output`, in letters; input and output may both begin, or both end, with `...`.
  ///   - outputShape: the output's sizes without the batch and what `...` stands for; nil where the input says it.
  ///   - biasAxes: the output's letters that have a bias.
  public init(
    _ equation: String, outputShape: [Int?], biasAxes: String? = nil, elementType: ElementType? = nil,
    generator: Generator = .default
  ) {
    guard let terms = Terms(equation) else {
      stop("EinsumDense: \"\(equation)\" is not of the form ab,bc->ac, ...b,bc->...c or ab...,bc->ac...")
    }
    if let biasAxes, biasAxes.isEmpty || !biasAxes.allSatisfy({ terms.output.contains($0) }) {
      stop("EinsumDense: bias axes \"\(biasAxes)\" are not letters of the output of \"\(equation)\"")
    }
    (self.equation, self.outputShape, self.biasAxes, self.terms) = (equation, outputShape, biasAxes, terms)
    (self.elementType, self.generator) = (elementType, generator)
  }

  private func build(_ x: Tensor) {
    let open = x.rank - terms.input.count
    var full: [Int?] = [x.shape[0]] + outputShape
    if terms.isLeftOpen { full.insert(contentsOf: x.shape[1..<open].map { $0 }, at: 1) }
    if terms.isRightOpen { full += x.shape[(x.rank - open)...].map { $0 } }
    let before = terms.isLeftOpen ? open : 0
    guard full.count == terms.output.count + open else {
      stop("\(label): outputShape does not have the \(terms.output.count) dimensions of the equation without the batch")
    }
    var sizes: [Character: Int] = [:]
    for (i, letter) in terms.output.enumerated() { sizes[letter] = full[i + before] }
    for (i, letter) in terms.input.enumerated() {
      let size = x.shape[i + before]
      guard sizes[letter] ?? size == size else {
        stop(
          "\(label): dimension \"\(letter)\" is \(size) in the input of shape \(x.shape), but \(sizes[letter]!) in outputShape")
      }
      sizes[letter] = size
    }
    let shape = terms.kernel.map { letter -> Int in
      guard let size = sizes[letter] else { stop("\(label): the size of dimension \"\(letter)\" is not known") }
      return size
    }
    let isOutput = terms.kernel.map { terms.output.contains($0) }
    let fans = zip(shape, isOutput).reduce(into: (in: 1, out: 1)) { if $1.1 { $0.out *= $1.0 } else { $0.in *= $1.0 } }
    let bound = (6 / Double(fans.in + fans.out)).squareRoot()
    let type = elementType ?? x.elementType
    kernelIfBuilt = Parameter(Initializer.uniform(-bound, bound)(Shape(shape), type, generator: generator))
    if let biasAxes, let first = terms.output.firstIndex(where: { biasAxes.contains($0) }) {
      let own = terms.output[first...].map { biasAxes.contains($0) ? sizes[$0] ?? 1 : 1 }
      bias = Parameter(Tensor.zeros(Shape(own + Array(repeating: 1, count: terms.isRightOpen ? open : 0)), type))
    }
  }

  public var kernel: Parameter { existing(kernelIfBuilt) }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    let x = received(x)
    let open = x.rank - terms.input.count
    // An ellipsis at the left stands for the batch, too.
    guard terms.isLeftOpen ? open >= 1 : terms.isRightOpen ? open >= 0 : open == 0 else {
      stop("\(label): the input of shape \(x.shape) does not have the dimensions of \"\(equation)\"")
    }
    if kernelIfBuilt == nil { untraced { build(x) } }
    let before = terms.isLeftOpen ? open : 0
    for (letter, size) in zip(terms.kernel, kernel.shape) {
      guard let i = terms.input.firstIndex(of: letter), x.shape[i + before] != size else { continue }
      stop("\(label): dimension \"\(letter)\" of the input of shape \(x.shape) is \(x.shape[i + before]), expected \(size)")
    }
    return recorded {
      let y = einsum(equation, x, kernel.value)
      return bias.map { y + $0.value } ?? y
    }
  }

  override var members: [Member] { Member.list(("kernel", kernelIfBuilt), ("bias", bias)) }
  override var awaitsInput: Bool { kernelIfBuilt == nil }
  override var arguments: String {
    let sizes = outputShape.map { $0.map { "\($0)" } ?? "nil" }.joined(separator: ", ")
    return "\"\(equation)\", outputShape: [\(sizes)]" + (biasAxes.map { ", biasAxes: \"\($0)\"" } ?? "")
  }
}

/// x₁ᵀ weightₒ x₂ + biasₒ for each output o: […, in1 features], […, in2 features] → […, out features].
///
/// Parameters: weight [out features, in1 features, in2 features], bias [out features]; initially uniform within ± 1 / √in1 features.
public final class Bilinear: Module {
  public let weight: Parameter
  public let bias: Parameter?

  public init(
    _ in1Features: Int, _ in2Features: Int, _ outFeatures: Int, bias: Bool = true, elementType: ElementType = .float32,
    generator: Generator = .default
  ) {
    guard in1Features > 0 && in2Features >= 0 && outFeatures >= 0 else {
      stop("Bilinear: \(in1Features), \(in2Features) and \(outFeatures) features")
    }
    let initializer = Initializer.uniformByFanIn(in1Features)
    weight = Parameter(initializer([outFeatures, in1Features, in2Features], elementType, generator: generator))
    self.bias = bias ? Parameter(initializer([outFeatures], elementType, generator: generator)) : nil
  }

  public func callAsFunction(_ x1: Tensor, _ x2: Tensor) -> Tensor {
    guard x1.shape.dropLast() == x2.shape.dropLast(), x1.shape.last == weight.shape[1], x2.shape.last == weight.shape[2] else {
      stop(
        "\(label): takes […, \(weight.shape[1])] and […, \(weight.shape[2])] that are alike before it, got shapes \(x1.shape) and "
          + "\(x2.shape)")
    }
    return recorded {
      let y = einsum("...i,oij,...j->...o", x1, weight.value, x2)
      return bias.map { y + $0.value } ?? y
    }
  }

  override var members: [Member] { Member.list(("weight", weight), ("bias", bias)) }
  override var arguments: String {
    "\(weight.shape[1]), \(weight.shape[2]), \(weight.shape[0])" + (bias == nil ? ", bias: false" : "")
  }
}
