/// Sums of products by Einstein's convention: `einsum("bij,bjk->bik", a, b)`.
///
/// Each operand's dimensions are named by letters; what has one letter has one index. The letters after `->` are the
/// result's dimensions in order, all others are summed over. Without `->` the result has the letters that occur
/// once, in alphabetical order. A letter twice in an operand takes its diagonal; `...` stands for dimensions that
/// broadcast. More than two operands are multiplied in pairs, the cheapest product first.
public func einsum(_ equation: String, _ operands: Tensor...) -> Tensor { einsum(equation, operands) }

public func einsum(_ equation: String, _ operands: [Tensor]) -> Tensor {
  var problem = EinsumProblem(equation, operands)
  return problem.run()
}

/// A dimension's name: a letter's code, or −1, −2, … for dimensions of an ellipsis counted from its end.
private typealias Label = Int

private struct EinsumProblem {
  struct Operand {
    var tensor: Tensor
    var labels: [Label]
  }

  let equation: String
  var operands: [Operand] = []
  var output: [Label] = []
  var sizes: [Label: Int] = [:]

  static func name(_ label: Label) -> String { label < 0 ? "..." : String(Character(Unicode.Scalar(UInt8(label)))) }

  func fail(_ message: String) -> Never { stop("einsum: \(message) in \"\(equation)\"") }

  init(_ equation: String, _ tensors: [Tensor]) {
    self.equation = equation
    let compact = equation.filter { $0 != " " }
    var (left, right) = (Substring(compact), Substring?.none)
    if let dash = compact.firstIndex(of: "-") {
      left = compact[..<dash]
      let rest = compact[dash...]
      guard rest.hasPrefix("->") else { stop("einsum: \"-\" without \">\" in \"\(equation)\"") }
      right = rest.dropFirst(2)
    }
    let terms = left.split(separator: ",", omittingEmptySubsequences: false)
    guard terms.count == tensors.count, !tensors.isEmpty else {
      stop("einsum: \"\(equation)\" names \(terms.count) operands, got \(tensors.count)")
    }
    let type = tensors.dropFirst().reduce(tensors[0].elementType) { ElementType.promote($0, $1.elementType) }
    var widest = 0
    for (i, term) in terms.enumerated() {
      let tensor = tensors[i].converted(to: type)
      let (before, after, hasEllipsis) = letters(term)
      let named = before.count + after.count
      guard hasEllipsis ? named <= tensor.rank : named == tensor.rank else {
        fail("operand \(i) of shape \(tensor.shape) does not have the \(named) dimensions of \"\(term)\"")
      }
      let open = tensor.rank - named
      widest = Swift.max(widest, open)
      operands.append(Operand(tensor: tensor, labels: before + (0..<open).map { $0 - open } + after))
    }
    collectSizes(tensors)
    if let right {
      let (before, after, hasEllipsis) = letters(right)
      for letter in before + after {
        guard sizes[letter] != nil else { fail("the result's letter '\(Self.name(letter))' is in no operand") }
        guard (before + after).filter({ $0 == letter }).count == 1 else {
          fail("the letter '\(Self.name(letter))' is twice in the result")
        }
      }
      output = before + (hasEllipsis ? (0..<widest).map { $0 - widest } : []) + after
    } else {
      let all = operands.flatMap(\.labels)
      let once = Set(all).filter { label in label > 0 && all.filter { $0 == label }.count == 1 }
      output = (0..<widest).map { $0 - widest } + once.sorted()
    }
    guard output.count <= Shape.maxRank else { fail("the result would have \(output.count) dimensions") }
  }

  /// The letters before and after an ellipsis.
  private func letters(_ term: Substring) -> (before: [Label], after: [Label], hasEllipsis: Bool) {
    var (before, after): ([Label], [Label]) = ([], [])
    var seen = false
    var rest = term[...]
    while let character = rest.first {
      if character == "." {
        guard rest.hasPrefix("..."), !seen else { fail("a \".\" that is not one \"...\" of \"\(term)\"") }
        seen = true
        rest = rest.dropFirst(3)
        continue
      }
      guard character.isASCII, character.isLetter, let code = character.asciiValue else { fail("the character '\(character)'") }
      if seen { after.append(Int(code)) } else { before.append(Int(code)) }
      rest = rest.dropFirst()
    }
    return (before, after, seen)
  }

  private mutating func collectSizes(_ tensors: [Tensor]) {
    var origin: [Label: Int] = [:]
    for (i, operand) in operands.enumerated() {
      for (dimension, label) in operand.labels.enumerated() {
        let size = operand.tensor.shape[dimension]
        guard let known = sizes[label], known != 1 else {
          sizes[label] = size
          origin[label] = i
          continue
        }
        guard size == known || size == 1 else {
          let first = origin[label]!
          fail(
            "'\(Self.name(label))' has size \(known) in operand \(first) of shape \(tensors[first].shape), size \(size) in "
              + "operand \(i) of shape \(tensors[i].shape)")
        }
      }
    }
  }

  mutating func run() -> Tensor {
    for i in operands.indices {
      takeDiagonals(&operands[i], i)
      dropRepeated(&operands[i])
    }
    for i in operands.indices { sumLone(i) }
    while operands.count > 1 {
      let (i, j) = cheapestPair()
      let needed = Set(output + operands.indices.filter { $0 != i && $0 != j }.flatMap { operands[$0].labels })
      let product = Self.contract(operands[i], operands[j], needed)
      operands[i] = product
      operands.remove(at: j)
    }
    return inOrder(operands[0])
  }

  /// A letter twice in an operand: its diagonal, as a dimension at the end.
  private func takeDiagonals(_ operand: inout Operand, _ number: Int) {
    while let first = operand.labels.indices.first(where: { operand.labels[($0 + 1)...].contains(operand.labels[$0]) }) {
      let label = operand.labels[first]
      let second = operand.labels[(first + 1)...].firstIndex(of: label)!
      let (m, n) = (operand.tensor.shape[first], operand.tensor.shape[second])
      guard m == n else {
        fail("'\(Self.name(label))' has sizes \(m) and \(n) in operand \(number) of shape \(operand.tensor.shape)")
      }
      var order = Array(0..<operand.labels.count)
      order.remove(at: second)
      order.remove(at: first)
      operand.tensor = operand.tensor.transposed(order + [first, second]).diagonal()
      operand.labels = order.map { operand.labels[$0] } + [label]
    }
  }

  /// Dimensions of size 1 where other operands have more: repeated, so not part of any sum here.
  private func dropRepeated(_ operand: inout Operand) {
    let kept = operand.labels.indices.filter { operand.tensor.shape[$0] == sizes[operand.labels[$0]]! }
    if kept.count == operand.labels.count { return }
    operand.tensor = operand.tensor.reshaped(Shape(kept.map { operand.tensor.shape[$0] }))
    operand.labels = kept.map { operand.labels[$0] }
  }

  /// Sums over what only one operand has.
  private mutating func sumLone(_ i: Int) {
    let others = Set(output + operands.indices.filter { $0 != i }.flatMap { operands[$0].labels })
    let lone = operands[i].labels.indices.filter { !others.contains(operands[i].labels[$0]) }
    if lone.isEmpty { return }
    operands[i].tensor = apply(.reduce(.sum, Axes(lone), keepDims: false), operands[i].tensor)
    operands[i].labels = operands[i].labels.indices.filter { !lone.contains($0) }.map { operands[i].labels[$0] }
  }

  /// The pair with the fewest multiplications; of equal ones that with the smallest result, then the first.
  private func cheapestPair() -> (Int, Int) {
    if operands.count == 2 { return (0, 1) }
    var best = (0, 1)
    var least = (Double.infinity, Double.infinity)
    for i in operands.indices {
      for j in operands.indices where j > i {
        let union = Set(operands[i].labels + operands[j].labels)
        let needed = Set(output + operands.indices.filter { $0 != i && $0 != j }.flatMap { operands[$0].labels })
        let cost = union.reduce(1.0) { $0 * Double(sizes[$1]!) }
        let result = union.filter { needed.contains($0) }.reduce(1.0) { $0 * Double(sizes[$1]!) }
        if (cost, result) < least { (least, best) = ((cost, result), (i, j)) }
      }
    }
    return best
  }

  private static func contract(_ a: Operand, _ b: Operand, _ needed: Set<Label>) -> Operand {
    let shared = a.labels.filter { b.labels.contains($0) }
    let batch = shared.filter { needed.contains($0) }
    let summed = shared.filter { !needed.contains($0) }
    let (aFree, bFree) = (a.labels.filter { !shared.contains($0) }, b.labels.filter { !shared.contains($0) })
    func places(_ labels: [Label], _ operand: Operand) -> Axes { Axes(labels.map { operand.labels.firstIndex(of: $0)! }) }
    if summed.isEmpty {
      // No sum: an elementwise product after lining the dimensions up.
      let left = apply(.transpose(places(batch + aFree, a)), a.tensor)
      let right = apply(.transpose(places(batch + bFree, b)), b.tensor)
      let ones = Shape(repeating: 1, count: bFree.count)
      let between = Shape(repeating: 1, count: aFree.count)
      let batchShape = Array(left.shape[..<batch.count])
      let wide = left.reshaped(Shape(Array(left.shape) + Array(ones)))
      let other = right.reshaped(Shape(batchShape + Array(between) + Array(right.shape[batch.count...])))
      return Operand(tensor: wide * other, labels: batch + aFree + bFree)
    }
    let dimensions = DotDimensions(
      lhsBatch: places(batch, a), rhsBatch: places(batch, b), lhsContracting: places(summed, a), rhsContracting: places(summed, b)
    )
    return Operand(tensor: apply(.dot(dimensions), a.tensor, b.tensor), labels: batch + aFree + bFree)
  }

  /// The one operand left, with the result's dimensions in order.
  private func inOrder(_ operand: Operand) -> Tensor {
    let order = output.map { operand.labels.firstIndex(of: $0)! }
    return order.elementsEqual(0..<order.count) ? operand.tensor : operand.tensor.transposed(order)
  }
}

/// The sum of products over the last `axes` dimensions of `a` and the first of `b`.
public func tensordot(_ a: Tensor, _ b: Tensor, axes: Int = 2) -> Tensor {
  guard axes >= 0 && axes <= a.rank && axes <= b.rank else {
    stop("tensordot: \(axes) axes of shapes \(a.shape) and \(b.shape)")
  }
  return tensordot(a, b, axes: (Array((a.rank - axes)..<a.rank), Array(0..<axes)))
}

/// The sum of products over the listed dimensions of `a` and `b`, pair by pair.
public func tensordot(_ a: Tensor, _ b: Tensor, axes: ([Int], [Int])) -> Tensor {
  let type = ElementType.promote(a.elementType, b.elementType)
  let dimensions = DotDimensions(lhsContracting: a.axes(axes.0, "tensordot"), rhsContracting: b.axes(axes.1, "tensordot"))
  if axes.0.isEmpty && axes.1.isEmpty { return a.outer(b).reshaped(Shape(Array(a.shape) + Array(b.shape))) }
  return apply(.dot(dimensions), a.converted(to: type), b.converted(to: type))
}

/// The sum of products over the last dimension of both; with a scalar the plain product.
public func inner(_ a: Tensor, _ b: Tensor) -> Tensor {
  a.rank == 0 || b.rank == 0 ? a * b : tensordot(a, b, axes: ([-1], [-1]))
}

/// The Kronecker product: each element of `a` times the whole of `b`, in blocks.
public func kron(_ a: Tensor, _ b: Tensor) -> Tensor {
  let rank = Swift.max(a.rank, b.rank)
  guard rank * 2 <= Shape.maxRank else {
    stop("kron: shapes \(a.shape) and \(b.shape) have more than \(Shape.maxRank / 2) dimensions")
  }
  func padded(_ x: Tensor) -> [Int] { Array(repeating: 1, count: rank - x.rank) + Array(x.shape) }
  let (p, q) = (padded(a), padded(b))
  let left = a.reshaped(Shape(p.flatMap { [$0, 1] }))
  let right = b.reshaped(Shape(q.flatMap { [1, $0] }))
  return (left * right).reshaped(Shape(zip(p, q).map { $0 * $1 }))
}
