import ApusTensor

/// What a layer makes of categories.
public enum CategoryOutput: String, Sendable, CaseIterable {
  /// Their numbers.
  case int
  /// A vector for each of them that is 1 in its place.
  case oneHot = "one_hot"
  /// A vector for each sample that is 1 in the places of the categories that occur in it.
  case multiHot = "multi_hot"
  /// A vector for each sample of how often each category occurs in it.
  case count
  /// The counts times how rare each category is.
  case tfIdf = "tf_idf"
}

/// Categories as vectors. Those outside of 0 ..< `depth` count nowhere.
/// - Parameters:
///   - x: integers [… , sample length] or, for `oneHot`, of any shape.
///   - weights: of the shape of `x`: what each category counts.
/// - Returns: [… , sample length, depth] for `oneHot` (a last dimension of 1 is left out), else [… , depth].
package func encodeCategories(
  _ x: Tensor, _ output: CategoryOutput, depth: Int, _ type: ElementType = .float32, weights: Tensor? = nil
) -> Tensor {
  var x = x.rank == 0 ? x.expanded(at: 0) : x
  switch output {
  case .int: return x
  case .oneHot:
    if x.rank > 1 && x.shape[x.rank - 1] == 1 { x = x.squeezed(-1) }
    return Tensor.oneHot(x, classes: depth, type)
  case .multiHot, .count, .tfIdf:
    let isInside = (x .>= 0) .& (x .< depth)
    var values = isInside.converted(to: type)
    if let weights { values = `where`(isInside, weights.converted(to: type), 0) }
    let places = `where`(isInside, x, 0)
    let target = Tensor.zeros(Shape(x.shape.dropLast() + [depth]), type)
    return target.scatterReduce(output == .multiHot ? .max : .add, axis: -1, indices: places, values: values)
  }
}

/// Integer categories as vectors; Keras's CategoryEncoding.
///
/// `.oneHot`: integers […] → […, number of tokens]; a last dimension of 1 is replaced. `.multiHot` and `.count`: integers
/// [… , sample length] → [… , number of tokens].
public final class CategoryEncoding: Module, Layer {
  public let numTokens: Int
  public let outputMode: CategoryOutput
  public let elementType: ElementType

  /// - Parameters:
  ///   - numTokens: categories are 0 ..< numTokens.
  ///   - outputMode: `.oneHot`, `.multiHot` or `.count`.
  public init(_ numTokens: Int, outputMode: CategoryOutput = .multiHot, elementType: ElementType = .float32) {
    (self.numTokens, self.outputMode, self.elementType) = (numTokens, outputMode, elementType)
    super.init()
    guard numTokens > 0 else { stop("\(label): there must be a token") }
    guard outputMode != .int && outputMode != .tfIdf else { stop("\(label): takes .oneHot, .multiHot or .count") }
  }

  public func callAsFunction(_ x: Tensor) -> Tensor { encode(x, nil) }

  /// - Parameter countWeights: what each category counts, of the shape of `x`; for `.count` alone.
  public func callAsFunction(_ x: Tensor, countWeights: Tensor) -> Tensor {
    guard outputMode == .count else { stop("\(label): countWeights need the output mode .count") }
    guard countWeights.shape == x.shape else {
      stop("\(label): countWeights of shape \(countWeights.shape) for categories of shape \(x.shape)")
    }
    return encode(x, countWeights)
  }

  private func encode(_ x: Tensor, _ weights: Tensor?) -> Tensor {
    guard x.elementType.isInteger else { stop("\(label): takes integers, got \(x.type)") }
    let x = x.converted(to: .int64)
    if !isTracing, let error = problem(x) { stop("\(label): \(error)") }
    return recorded(encodeCategories(x, outputMode, depth: numTokens, elementType, weights: weights))
  }

  /// Whether all categories are ones that this layer has, for data from outside; a call stops if not.
  /// - Throws: `PreprocessingError` with the first wrong category and its position in row-major order.
  public func validate(_ x: Tensor) throws(PreprocessingError) {
    if let error = problem(x.converted(to: .int64)) { throw error }
  }

  private func problem(_ x: Tensor) -> PreprocessingError? {
    let wrong = withoutGradient { (x .< 0) .| (x .>= numTokens) }.flattened()
    guard wrong.any().item(as: Bool.self) else { return nil }
    let position = wrong.converted(to: .int64).argMax(axis: 0).item(as: Int.self)
    return .categoryOutOfRange(value: x.flattened()[position].item(as: Int.self), position: position, count: numTokens)
  }

  override var members: [Member] { [] }
  override var arguments: String { "\(numTokens), outputMode: .\(outputMode)" }
}
