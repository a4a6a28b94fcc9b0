// Operators and functions of one and two numbers, element by element.

infix operator .== : ComparisonPrecedence
infix operator .!= : ComparisonPrecedence
infix operator .< : ComparisonPrecedence
infix operator .<= : ComparisonPrecedence
infix operator .> : ComparisonPrecedence
infix operator .>= : ComparisonPrecedence
// .& .| .^ are declared by the standard library, below comparisons; declaring them again would make them ambiguous outside.
prefix operator .!

/// A number as a tensor that fits beside `x`: of the promoted type, with x's shape.
func scalarBeside(_ x: inout Tensor, _ value: Scalar) -> Tensor {
  let type = x.elementType.promoted(withScalarOfKind: value.kind)
  if type != x.elementType { x = x.converted(to: type) }
  return Tensor.full(x.shape, value, type)
}

func apply(binary kind: BinaryKind, _ x: consuming Tensor, scalar: Scalar) -> Tensor {
  let other = scalarBeside(&x, scalar)
  return apply(binary: kind, x, other)
}

func apply(binary kind: BinaryKind, scalar: Scalar, _ x: consuming Tensor) -> Tensor {
  let other = scalarBeside(&x, scalar)
  return apply(binary: kind, other, x)
}

extension Tensor {
  public static func + (a: consuming Tensor, b: consuming Tensor) -> Tensor { apply(binary: .add, a, b) }
  public static func - (a: consuming Tensor, b: consuming Tensor) -> Tensor { apply(binary: .sub, a, b) }
  public static func * (a: consuming Tensor, b: consuming Tensor) -> Tensor { apply(binary: .mul, a, b) }
  /// True division: integers give float32.
  public static func / (a: consuming Tensor, b: consuming Tensor) -> Tensor {
    apply(binary: .div, a.floatingPoint(beside: b), b.floatingPoint(beside: a))
  }
  /// The remainder with the sign of the divisor, as in PyTorch and Python.
  public static func % (a: consuming Tensor, b: consuming Tensor) -> Tensor { apply(binary: .mod, a, b) }

  public static func + (a: consuming Tensor, b: some TensorScalar) -> Tensor { apply(binary: .add, a, scalar: b.tensorScalar) }
  public static func - (a: consuming Tensor, b: some TensorScalar) -> Tensor { apply(binary: .sub, a, scalar: b.tensorScalar) }
  public static func * (a: consuming Tensor, b: some TensorScalar) -> Tensor { apply(binary: .mul, a, scalar: b.tensorScalar) }
  public static func / (a: consuming Tensor, b: some TensorScalar) -> Tensor {
    apply(binary: .div, a.elementType.isFloatingPoint ? a : a.converted(to: .float32), scalar: b.tensorScalar)
  }
  public static func % (a: consuming Tensor, b: some TensorScalar) -> Tensor { apply(binary: .mod, a, scalar: b.tensorScalar) }

  public static func + (a: some TensorScalar, b: consuming Tensor) -> Tensor { apply(binary: .add, scalar: a.tensorScalar, b) }
  public static func - (a: some TensorScalar, b: consuming Tensor) -> Tensor { apply(binary: .sub, scalar: a.tensorScalar, b) }
  public static func * (a: some TensorScalar, b: consuming Tensor) -> Tensor { apply(binary: .mul, scalar: a.tensorScalar, b) }
  public static func / (a: some TensorScalar, b: consuming Tensor) -> Tensor {
    apply(binary: .div, scalar: a.tensorScalar, b.elementType.isFloatingPoint ? b : b.converted(to: .float32))
  }
  public static func % (a: some TensorScalar, b: consuming Tensor) -> Tensor { apply(binary: .mod, scalar: a.tensorScalar, b) }

  public static prefix func - (x: consuming Tensor) -> Tensor { apply(unary: .neg, x) }

  public static func += (a: inout Tensor, b: Tensor) { a = a.taken() + b }
  public static func -= (a: inout Tensor, b: Tensor) { a = a.taken() - b }
  public static func *= (a: inout Tensor, b: Tensor) { a = a.taken() * b }
  public static func /= (a: inout Tensor, b: Tensor) { a = a.taken() / b }
  public static func += (a: inout Tensor, b: some TensorScalar) { a = a.taken() + b }
  public static func -= (a: inout Tensor, b: some TensorScalar) { a = a.taken() - b }
  public static func *= (a: inout Tensor, b: some TensorScalar) { a = a.taken() * b }
  public static func /= (a: inout Tensor, b: some TensorScalar) { a = a.taken() / b }

  private static let nothing = Tensor(false)

  /// Moves the value out, so that the operation that follows holds the only reference.
  private mutating func taken() -> Tensor {
    var value = Tensor.nothing
    swap(&self, &value)
    return value
  }

  /// The operand of a true division: integers become float32.
  private func floatingPoint(beside other: Tensor) -> Tensor {
    elementType.isFloatingPoint || other.elementType.isFloatingPoint ? self : converted(to: .float32)
  }

  // MARK: Comparison, element by element: bool

  public static func .== (a: Tensor, b: Tensor) -> Tensor { compare(.equal, a, b) }
  public static func .!= (a: Tensor, b: Tensor) -> Tensor { compare(.notEqual, a, b) }
  public static func .< (a: Tensor, b: Tensor) -> Tensor { compare(.less, a, b) }
  public static func .<= (a: Tensor, b: Tensor) -> Tensor { compare(.lessEqual, a, b) }
  public static func .> (a: Tensor, b: Tensor) -> Tensor { compare(.greater, a, b) }
  public static func .>= (a: Tensor, b: Tensor) -> Tensor { compare(.greaterEqual, a, b) }

  public static func .== (a: Tensor, b: some TensorScalar) -> Tensor { compare(.equal, a, scalar: b.tensorScalar) }
  public static func .!= (a: Tensor, b: some TensorScalar) -> Tensor { compare(.notEqual, a, scalar: b.tensorScalar) }
  public static func .< (a: Tensor, b: some TensorScalar) -> Tensor { compare(.less, a, scalar: b.tensorScalar) }
  public static func .<= (a: Tensor, b: some TensorScalar) -> Tensor { compare(.lessEqual, a, scalar: b.tensorScalar) }
  public static func .> (a: Tensor, b: some TensorScalar) -> Tensor { compare(.greater, a, scalar: b.tensorScalar) }
  public static func .>= (a: Tensor, b: some TensorScalar) -> Tensor { compare(.greaterEqual, a, scalar: b.tensorScalar) }

  private static func compare(_ kind: ComparisonKind, _ a: Tensor, _ b: Tensor) -> Tensor {
    let operation = Operation.compare(kind)
    let (a, b) = matched(a, b, operation)
    return apply(operation, a, b)
  }

  private static func compare(_ kind: ComparisonKind, _ a: Tensor, scalar: Scalar) -> Tensor {
    var a = a
    let b = scalarBeside(&a, scalar)
    return apply(.compare(kind), a, b)
  }

  // MARK: Logic: bool tensors, or the bits of integers

  public static func .& (a: Tensor, b: Tensor) -> Tensor { apply(binary: .and, a, b) }
  public static func .| (a: Tensor, b: Tensor) -> Tensor { apply(binary: .or, a, b) }
  public static func .^ (a: Tensor, b: Tensor) -> Tensor { apply(binary: .xor, a, b) }
  public static prefix func .! (x: Tensor) -> Tensor { apply(unary: .not, x) }
  public static func << (a: Tensor, b: Tensor) -> Tensor { apply(binary: .shiftLeft, a, b) }
  public static func >> (a: Tensor, b: Tensor) -> Tensor { apply(binary: .shiftRight, a, b) }
  public static func << (a: Tensor, b: Int) -> Tensor { apply(binary: .shiftLeft, a, scalar: .int(b)) }
  public static func >> (a: Tensor, b: Int) -> Tensor { apply(binary: .shiftRight, a, scalar: .int(b)) }
}

// MARK: Functions of one number

public func abs(_ x: Tensor) -> Tensor { apply(unary: .abs, x) }
/// −1, 0 or 1.
public func sign(_ x: Tensor) -> Tensor { apply(unary: .sign, x) }
public func floor(_ x: Tensor) -> Tensor { apply(unary: .floor, x) }
public func ceil(_ x: Tensor) -> Tensor { apply(unary: .ceil, x) }
/// To the nearest integer, halves to even.
public func round(_ x: Tensor) -> Tensor { apply(unary: .round, x) }
public func trunc(_ x: Tensor) -> Tensor { apply(unary: .trunc, x) }
public func sqrt(_ x: Tensor) -> Tensor { apply(unary: .sqrt, x) }
/// 1 / √x.
public func rsqrt(_ x: Tensor) -> Tensor { apply(unary: .rsqrt, x) }
public func reciprocal(_ x: Tensor) -> Tensor { apply(unary: .reciprocal, x) }
public func square(_ x: Tensor) -> Tensor { apply(unary: .square, x) }
public func exp(_ x: Tensor) -> Tensor { apply(unary: .exp, x) }
/// eˣ − 1, exact near 0.
public func expm1(_ x: Tensor) -> Tensor { apply(unary: .expm1, x) }
public func exp2(_ x: Tensor) -> Tensor { apply(unary: .exp2, x) }
public func log(_ x: Tensor) -> Tensor { apply(unary: .log, x) }
/// log(1 + x), exact near 0.
public func log1p(_ x: Tensor) -> Tensor { apply(unary: .log1p, x) }
public func log2(_ x: Tensor) -> Tensor { apply(unary: .log2, x) }
public func sin(_ x: Tensor) -> Tensor { apply(unary: .sin, x) }
public func cos(_ x: Tensor) -> Tensor { apply(unary: .cos, x) }
public func tan(_ x: Tensor) -> Tensor { apply(unary: .tan, x) }
public func asin(_ x: Tensor) -> Tensor { apply(unary: .asin, x) }
public func acos(_ x: Tensor) -> Tensor { apply(unary: .acos, x) }
public func atan(_ x: Tensor) -> Tensor { apply(unary: .atan, x) }
public func sinh(_ x: Tensor) -> Tensor { apply(unary: .sinh, x) }
public func cosh(_ x: Tensor) -> Tensor { apply(unary: .cosh, x) }
public func asinh(_ x: Tensor) -> Tensor { apply(unary: .asinh, x) }
public func acosh(_ x: Tensor) -> Tensor { apply(unary: .acosh, x) }
public func atanh(_ x: Tensor) -> Tensor { apply(unary: .atanh, x) }
public func tanh(_ x: Tensor) -> Tensor { apply(unary: .tanh, x) }
/// 1 / (1 + e⁻ˣ).
public func sigmoid(_ x: Tensor) -> Tensor { apply(unary: .sigmoid, x) }
/// The error function.
public func erf(_ x: Tensor) -> Tensor { apply(unary: .erf, x) }
/// 1 − erf(x), exact for large x.
public func erfc(_ x: Tensor) -> Tensor { apply(unary: .erfc, x) }
/// The inverse of the error function.
public func erfInv(_ x: Tensor) -> Tensor { apply(unary: .erfInv, x) }
public func isNaN(_ x: Tensor) -> Tensor { apply(unary: .isNaN, x) }
public func isInfinite(_ x: Tensor) -> Tensor { apply(unary: .isInfinite, x) }
public func isFinite(_ x: Tensor) -> Tensor { apply(unary: .isFinite, x) }

// MARK: Activations

/// max(x, 0).
public func relu(_ x: consuming Tensor) -> Tensor { apply(unary: .relu, x) }
/// x Φ(x), Φ the normal distribution function; with its approximation by tanh on request.
public func gelu(_ x: consuming Tensor, approximate: Bool = false) -> Tensor { apply(unary: approximate ? .geluTanh : .gelu, x) }
/// x sigmoid(x), also called swish.
public func silu(_ x: consuming Tensor) -> Tensor { apply(unary: .silu, x) }
/// log(1 + eˣ).
public func softplus(_ x: consuming Tensor) -> Tensor { apply(unary: .softplus, x) }
/// x where positive, else slope · x.
public func leakyRelu(_ x: Tensor, slope: Double = 0.01) -> Tensor { `where`(x .> 0, x, x * slope) }
/// x where positive, else alpha (eˣ − 1).
public func elu(_ x: Tensor, alpha: Double = 1) -> Tensor { `where`(x .> 0, x, expm1(minimum(x, 0)) * alpha) }
/// λ x where positive, else λ α (eˣ − 1): keeps mean 0 and variance 1 (Klambauer et al. 2017).
public func selu(_ x: Tensor) -> Tensor { elu(x, alpha: 1.673_263_242_354_377_2) * 1.050_700_987_355_480_5 }
/// x tanh(log(1 + eˣ)) (Misra 2019).
public func mish(_ x: Tensor) -> Tensor { x * tanh(softplus(x)) }
/// x / (1 + |x|).
public func softsign(_ x: Tensor) -> Tensor { x / (abs(x) + 1) }
/// log sigmoid(x), without overflow.
public func logSigmoid(_ x: Tensor) -> Tensor { -softplus(-x) }
/// relu limited to 6.
public func relu6(_ x: Tensor) -> Tensor { minimum(relu(x), 6) }
/// relu6(x + 3) / 6.
public func hardSigmoid(_ x: Tensor) -> Tensor { relu6(x + 3) / 6 }
/// x · hardSigmoid(x).
public func hardSwish(_ x: Tensor) -> Tensor { x * hardSigmoid(x) }

// MARK: Functions of two numbers

/// aᵇ.
public func pow(_ a: Tensor, _ b: Tensor) -> Tensor { apply(binary: .pow, a, b) }
public func pow(_ a: Tensor, _ b: some TensorScalar) -> Tensor { apply(binary: .pow, a, scalar: b.tensorScalar) }
public func pow(_ a: some TensorScalar, _ b: Tensor) -> Tensor { apply(binary: .pow, scalar: a.tensorScalar, b) }
/// The larger element; NaN if either is.
public func maximum(_ a: Tensor, _ b: Tensor) -> Tensor { apply(binary: .max, a, b) }
public func maximum(_ a: Tensor, _ b: some TensorScalar) -> Tensor { apply(binary: .max, a, scalar: b.tensorScalar) }
/// The smaller element; NaN if either is.
public func minimum(_ a: Tensor, _ b: Tensor) -> Tensor { apply(binary: .min, a, b) }
public func minimum(_ a: Tensor, _ b: some TensorScalar) -> Tensor { apply(binary: .min, a, scalar: b.tensorScalar) }
/// The angle of the point (x, y), in −π … π.
public func atan2(_ y: Tensor, _ x: Tensor) -> Tensor { apply(binary: .atan2, y, x) }
/// ⌊a / b⌋.
public func floorDivide(_ a: Tensor, _ b: Tensor) -> Tensor { apply(binary: .floorDiv, a, b) }
public func floorDivide(_ a: Tensor, _ b: some TensorScalar) -> Tensor { apply(binary: .floorDiv, a, scalar: b.tensorScalar) }
/// The remainder with the sign of the left side, as C's fmod and %.
public func fmod(_ a: Tensor, _ b: Tensor) -> Tensor { apply(binary: .rem, a, b) }
public func fmod(_ a: Tensor, _ b: some TensorScalar) -> Tensor { apply(binary: .rem, a, scalar: b.tensorScalar) }

/// `a` where the condition holds, else `b`; all three broadcast.
public func `where`(_ condition: Tensor, _ a: Tensor, _ b: Tensor) -> Tensor {
  guard condition.elementType == .bool else { stop("where: the condition must be bool, got \(condition.type)") }
  let (a, b) = matched(a, b, .select)
  guard let shape = Shape.broadcast(condition.shape, a.shape) else {
    stop("where: shapes \(condition.shape) and \(a.shape) do not broadcast to one")
  }
  return apply(.select, condition.broadcast(to: shape), a.broadcast(to: shape), b.broadcast(to: shape))
}

public func `where`(_ condition: Tensor, _ a: Tensor, _ b: some TensorScalar) -> Tensor {
  var a = a
  let b = scalarBeside(&a, b.tensorScalar)
  return `where`(condition, a, b)
}

public func `where`(_ condition: Tensor, _ a: some TensorScalar, _ b: Tensor) -> Tensor {
  var b = b
  let a = scalarBeside(&b, a.tensorScalar)
  return `where`(condition, a, b)
}

extension Tensor {
  /// Each element limited to low … high.
  public func clamped(_ low: some TensorScalar, _ high: some TensorScalar) -> Tensor { minimum(maximum(self, low), high) }

  /// The same numbers in another type. To integers: truncated, saturating, NaN to 0; to bool: not zero.
  public func converted(to type: ElementType) -> Tensor { type == elementType ? self : apply(.convert(type), self) }

  /// The same bits read as a type of equal size.
  public func bitcast(to type: ElementType) -> Tensor { type == elementType ? self : apply(.bitcast(type), self) }
}

/// Whether all elements are within `absolute + relative · |b|` of each other. NaN equals NaN on request.
public func allClose(_ a: Tensor, _ b: Tensor, relative: Double = 1e-5, absolute: Double = 1e-8, equalNaN: Bool = false) -> Bool {
  guard a.shape == b.shape else { return false }
  let (x, y) = (a.detached().converted(to: .float64), b.detached().converted(to: .float64))
  var close = (abs(x - y) .<= abs(y) * relative + absolute) .| (x .== y)
  if equalNaN { close = close .| (isNaN(x) .& isNaN(y)) }
  return close.all().item(as: Bool.self)
}
