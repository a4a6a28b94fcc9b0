import ApusCPU

@testable import ApusTensor

/// A formula for test values, the same here and in Fixtures/make_operations.py.
///
/// Element i of an input takes k = (37 i + 11 seed + 5) mod 127, so up to 127 elements are distinct. All values are
/// fractions of few bits: exact in every floating point type, so that one reference serves all of them.
enum Pattern: Sendable, Hashable {
  /// (k − 63) / 16; k − 63 for integers, k for uint8.
  case signed
  /// As `signed`, without zero.
  case nonzero
  /// (4 (k − 63) + 1) / 64: never a multiple of another pattern's values, for functions with jumps.
  case offset
  /// (k + 1) / 32.
  case positive
  /// (k − 63) / 64: within −1 and 1.
  case unit
  /// (k + 65) / 64: above 1.
  case aboveOne
  /// k mod 5 − 2: many equal values.
  case small
  /// k mod 7: shift distances and integer exponents.
  case count
  /// NaN, infinities, zeros of both signs and ordinary numbers; element (i / period) mod 11.
  case special(period: Int)
  /// (37 i + 11 seed + 5) mod 2n − n: positions that also count from the end.
  case index(Int)
  /// (i + seed) mod n: positions, no two alike while there are at most n.
  case distinct(Int)
  /// The given integers.
  case list([Int])

  static let specials: [Double] = [
    .nan, .infinity, -.infinity, 0, -0.0, 1, -1, 0.5, -2.5, 16384, 0.000_061_035_156_25,
  ]

  /// Element i as a floating point number.
  func real(_ i: Int, _ seed: Int) -> Double {
    let k = Double((37 * i + 11 * seed + 5) % 127)
    switch self {
    case .signed: return (k - 63) / 16
    case .nonzero: return (k < 63 ? k - 63 : k - 62) / 16
    case .offset: return (4 * (k - 63) + 1) / 64
    case .positive: return (k + 1) / 32
    case .unit: return (k - 63) / 64
    case .aboveOne: return (k + 65) / 64
    case .special(let period): return Pattern.specials[i / period % 11]
    case .small, .count, .index, .distinct, .list: return Double(integer(i, seed, unsigned: false))
    }
  }

  /// Element i as an integer.
  func integer(_ i: Int, _ seed: Int, unsigned: Bool) -> Int {
    let k = (37 * i + 11 * seed + 5) % 127
    switch self {
    case .signed: return unsigned ? k : k - 63
    case .nonzero: return unsigned ? k + 1 : k < 63 ? k - 63 : k - 62
    case .offset, .positive, .aboveOne: return k + 1
    case .unit: return unsigned ? k : k - 63
    case .small: return unsigned ? k % 5 : k % 5 - 2
    case .count: return k % 7
    case .special: return 0
    case .index(let n): return (37 * i + 11 * seed + 5) % (2 * n) - n
    case .distinct(let n): return (i + seed) % n
    case .list(let values): return values[i]
    }
  }

  /// Element i as a truth value.
  func truth(_ i: Int, _ seed: Int) -> Bool { (37 * i + 11 * seed + 5) % 127 % 3 == 0 }

  /// As the fixture names it.
  var text: String {
    switch self {
    case .signed: "signed"
    case .nonzero: "nonzero"
    case .offset: "offset"
    case .positive: "positive"
    case .unit: "unit"
    case .aboveOne: "aboveOne"
    case .small: "small"
    case .count: "count"
    case .special(let period): "special:\(period)"
    case .index(let n): "index:\(n)"
    case .distinct(let n): "distinct:\(n)"
    case .list(let values): "list:" + values.map(String.init).joined(separator: ",")
    }
  }
}

/// One operand of a sample.
struct Input: Sendable {
  /// What element type it has when the sample runs in some type.
  enum Role: Sendable, Hashable {
    case data
    case fixed(ElementType)
    /// float64 beside float64, else float32.
    case statistics
  }

  var shape: Shape
  var pattern: Pattern
  var seed: Int
  var role: Role

  init(_ shape: Shape, _ pattern: Pattern = .signed, seed: Int = 0, role: Role = .data) {
    self.shape = shape
    self.pattern = pattern
    self.seed = seed
    self.role = role
  }

  /// Positions along a dimension.
  static func indices(_ shape: Shape, _ pattern: Pattern, seed: Int = 0) -> Input {
    Input(shape, pattern, seed: seed, role: .fixed(.int64))
  }

  func elementType(_ type: ElementType) -> ElementType {
    switch role {
    case .data: type
    case .fixed(let fixed): fixed
    case .statistics: type == .float64 ? .float64 : .float32
    }
  }

  func type(_ type: ElementType) -> TensorType { TensorType(shape, elementType(type)) }

  func tensor(_ type: ElementType) -> Tensor {
    let own = elementType(type)
    let n = shape.elementCount
    switch own {
    case .bool: return Tensor((0..<n).map { pattern.truth($0, seed) }, shape: shape)
    case .uint8, .int8, .int16, .int32, .int64:
      let values = (0..<n).map { Int64(pattern.integer($0, seed, unsigned: own == .uint8)) }
      return Tensor(values, shape: shape).converted(to: own)
    case .float16, .bfloat16, .float32, .float64:
      return Tensor((0..<n).map { pattern.real($0, seed) }, shape: shape).converted(to: own)
    }
  }

  /// As the fixture names it; `group` stands for the element type.
  func text(_ group: TypeGroup) -> String {
    let kind: TypeGroup =
      switch role {
      case .data: group
      case .fixed(let type): TypeGroup(type)
      case .statistics: .real
      }
    return "\(kind.rawValue) \(listText(shape)) \(pattern.text) \(seed)"
  }
}

/// Element types that share one reference: computed in float64, int64 or bool.
enum TypeGroup: String, Sendable, CaseIterable {
  case real, signed, unsigned, bool

  init(_ type: ElementType) {
    switch type {
    case .float16, .bfloat16, .float32, .float64: self = .real
    case .int8, .int16, .int32, .int64: self = .signed
    case .uint8: self = .unsigned
    case .bool: self = .bool
    }
  }
}

/// `2,3`, or `_` for an empty list.
func listText(_ list: some Collection<Int>) -> String {
  list.isEmpty ? "_" : list.map(String.init).joined(separator: ",")
}
