import ApusIR
import CApusKernels

extension UnaryKind {
  @inlinable var code: Int32 {
    let op: apus_op =
      switch self {
      case .neg: APUS_OP_NEG
      case .abs: APUS_OP_ABS
      case .sign: APUS_OP_SIGN
      case .floor: APUS_OP_FLOOR
      case .ceil: APUS_OP_CEIL
      case .round: APUS_OP_ROUND
      case .trunc: APUS_OP_TRUNC
      case .sqrt: APUS_OP_SQRT
      case .rsqrt: APUS_OP_RSQRT
      case .reciprocal: APUS_OP_RECIPROCAL
      case .square: APUS_OP_SQUARE
      case .exp: APUS_OP_EXP
      case .expm1: APUS_OP_EXPM1
      case .exp2: APUS_OP_EXP2
      case .log: APUS_OP_LOG
      case .log1p: APUS_OP_LOG1P
      case .log2: APUS_OP_LOG2
      case .sin: APUS_OP_SIN
      case .cos: APUS_OP_COS
      case .tan: APUS_OP_TAN
      case .asin: APUS_OP_ASIN
      case .acos: APUS_OP_ACOS
      case .atan: APUS_OP_ATAN
      case .sinh: APUS_OP_SINH
      case .cosh: APUS_OP_COSH
      case .asinh: APUS_OP_ASINH
      case .acosh: APUS_OP_ACOSH
      case .atanh: APUS_OP_ATANH
      case .tanh: APUS_OP_TANH
      case .sigmoid: APUS_OP_SIGMOID
      case .erf: APUS_OP_ERF
      case .erfc: APUS_OP_ERFC
      case .erfInv: APUS_OP_ERF_INV
      case .not: APUS_OP_NOT
      case .isNaN: APUS_OP_IS_NAN
      case .isInfinite: APUS_OP_IS_INF
      case .isFinite: APUS_OP_IS_FINITE
      case .relu: APUS_OP_RELU
      case .gelu: APUS_OP_GELU_ERF
      case .geluTanh: APUS_OP_GELU_TANH
      case .silu: APUS_OP_SILU
      case .softplus: APUS_OP_SOFTPLUS
      }
    return Int32(op.rawValue)
  }
}

extension BinaryKind {
  @inlinable var code: Int32 {
    let op: apus_op =
      switch self {
      case .add: APUS_OP_ADD
      case .sub: APUS_OP_SUB
      case .mul: APUS_OP_MUL
      case .div: APUS_OP_DIV
      case .floorDiv: APUS_OP_FLOOR_DIV
      case .rem: APUS_OP_REM
      case .mod: APUS_OP_MOD
      case .pow: APUS_OP_POW
      case .max: APUS_OP_MAX
      case .min: APUS_OP_MIN
      case .atan2: APUS_OP_ATAN2
      case .and: APUS_OP_AND
      case .or: APUS_OP_OR
      case .xor: APUS_OP_XOR
      case .shiftLeft: APUS_OP_SHL
      case .shiftRight: APUS_OP_SHR
      }
    return Int32(op.rawValue)
  }
}

extension ComparisonKind {
  var code: Int32 {
    let op: apus_op =
      switch self {
      case .equal: APUS_OP_EQ
      case .notEqual: APUS_OP_NE
      case .less: APUS_OP_LT
      case .lessEqual: APUS_OP_LE
      case .greater: APUS_OP_GT
      case .greaterEqual: APUS_OP_GE
      }
    return Int32(op.rawValue)
  }
}

extension ActivationKind {
  /// The kernel's operation; nil where there is none.
  var code: Int32? {
    let op: apus_op
    switch self {
    case .relu: op = APUS_OP_RELU_GRAD
    case .sigmoid: op = APUS_OP_SIGMOID_GRAD
    case .tanh: op = APUS_OP_TANH_GRAD
    case .gelu: op = APUS_OP_GELU_ERF_GRAD
    case .geluTanh: op = APUS_OP_GELU_TANH_GRAD
    case .silu: op = APUS_OP_SILU_GRAD
    case .softplus: return nil
    }
    return Int32(op.rawValue)
  }
}

extension CPU {
  /// `reuse`: x is dense and seen by nobody else; the result, if it has x's type, takes its memory.
  @inlinable public static func unary(_ kind: UnaryKind, _ x: CPUArray, _ resultType: ElementType, reuse: Bool) -> CPUArray {
    if x.isDense {
      let out = reuse && resultType == x.elementType ? CPUArray(over: x, resultType) : CPUArray(uninitializedLike: x, resultType)
      apus_flat(kind.code, x.elementType.code, Int64(x.elementCount), out.pointer, x.pointer, nil, nil, 0)
      return out
    }
    let out = CPUArray(uninitialized: x.shape, resultType)
    stridedUnary(kind.code, x, out)
    return out
  }

  @usableFromInline static func stridedUnary(_ code: Int32, _ x: CPUArray, _ out: CPUArray) {
    withDimensions(x.shape) { dims in
      out.withView { o in x.withView { a in apus_unary(code, x.elementType.code, Int32(x.shape.count), dims, o, a) } }
    }
  }

  @inlinable public static func binary(_ kind: BinaryKind, _ a: CPUArray, _ b: CPUArray, reuse: Reuse) -> CPUArray {
    binary(code: kind.code, a, b, a.elementType, reuse: reuse)
  }

  @inlinable static func binary(code: Int32, _ a: CPUArray, _ b: CPUArray, _ resultType: ElementType, reuse: Reuse) -> CPUArray {
    if a.isDense && a.hasLayout(of: b) {
      let out: CPUArray =
        switch reuse {
        case .neither: CPUArray(uninitializedLike: a, resultType)
        case .lhs: CPUArray(over: a, resultType)
        case .rhs: CPUArray(over: b, resultType)
        }
      apus_flat(code, a.elementType.code, Int64(a.elementCount), out.pointer, a.pointer, b.pointer, nil, 0)
      return out
    }
    return mixedBinary(code, a, b, resultType, reuse: reuse)
  }

  /// Two dense operands of one type and one order of memory.
  @inlinable public static func flatBinary(
    _ kind: BinaryKind, _ type: ElementType, _ count: Int, _ out: UnsafeMutableRawPointer, _ a: UnsafeMutableRawPointer,
    _ b: UnsafeMutableRawPointer
  ) {
    apus_flat(kind.code, type.code, Int64(count), out, a, b, nil, 0)
  }

  /// Operands whose memory is ordered in different ways, or broadcast ones.
  @usableFromInline static func mixedBinary(
    _ code: Int32, _ a: CPUArray, _ b: CPUArray, _ resultType: ElementType, reuse: Reuse
  ) -> CPUArray {
    let out: CPUArray =
      if reuse == .lhs && a.isDense {
        CPUArray(over: a, resultType)
      } else if reuse == .rhs && b.isDense {
        CPUArray(over: b, resultType)
      } else if a.isDense {
        CPUArray(uninitializedLike: a, resultType)
      } else if b.isDense {
        CPUArray(uninitializedLike: b, resultType)
      } else {
        CPUArray(uninitialized: a.shape, resultType)
      }
    run(binary: code, a, b, out)
    return out
  }

  /// Operands of one shape in any layout, into memory of the result's shape in any layout.
  static func run(binary code: Int32, _ a: CPUArray, _ b: CPUArray, _ out: CPUArray) {
    if out.isDense && a.hasLayout(of: out) && b.hasLayout(of: out) {
      apus_flat(code, a.elementType.code, Int64(out.elementCount), out.pointer, a.pointer, b.pointer, nil, 0)
      return
    }
    // A number with a dense tensor, the commonest case, needs no shapes either.
    let scalars: Int32 = b.isOneValue && a.hasLayout(of: out) ? 2 : a.isOneValue && b.hasLayout(of: out) ? 1 : 0
    if scalars != 0 && out.isDense {
      apus_flat(code, a.elementType.code, Int64(out.elementCount), out.pointer, a.pointer, b.pointer, nil, scalars)
      return
    }
    withDimensions(a.shape) { dims in
      out.withView { o in
        a.withView { va in
          b.withView { vb in apus_binary(code, a.elementType.code, Int32(a.shape.count), dims, o, va, vb) }
        }
      }
    }
  }

  static func run(unary code: Int32, _ x: CPUArray, _ out: CPUArray) {
    if x.isDense && x.hasLayout(of: out) {
      apus_flat(code, x.elementType.code, Int64(x.elementCount), out.pointer, x.pointer, nil, nil, 0)
    } else {
      stridedUnary(code, x, out)
    }
  }

  static func run(select condition: CPUArray, _ a: CPUArray, _ b: CPUArray, _ out: CPUArray) {
    let code = Int32(APUS_OP_SELECT.rawValue)
    withDimensions(a.shape) { dims in
      out.withView { o in
        condition.withView { c in
          a.withView { va in
            b.withView { vb in apus_ternary(code, a.elementType.code, Int32(a.shape.count), dims, o, c, va, vb) }
          }
        }
      }
    }
  }

  public static func convert(_ x: CPUArray, _ type: ElementType) -> CPUArray {
    if x.elementType == type { return x }
    let out = x.isDense ? CPUArray(uninitializedLike: x, type) : CPUArray(uninitialized: x.shape, type)
    run(convert: x, out)
    return out
  }

  static func run(convert x: CPUArray, _ out: CPUArray) {
    if x.elementType == out.elementType { return out.assign(x) }
    if x.isDense && x.hasLayout(of: out) {
      apus_convert_flat(Int64(x.elementCount), out.pointer, out.elementType.code, x.pointer, x.elementType.code)
      return
    }
    withDimensions(x.shape) { dims in
      out.withView { o in x.withView { a in apus_convert(Int32(x.shape.count), dims, o, a) } }
    }
  }

  static func run(activationGradient kind: ActivationKind, _ dy: CPUArray, _ saved: CPUArray, _ out: CPUArray) {
    if let code = kind.code { return run(binary: code, dy, saved, out) }
    // softplus: its slope is the sigmoid.
    run(unary: UnaryKind.sigmoid.code, saved, out)
    run(binary: BinaryKind.mul.code, dy, out, out)
  }

  /// A tensor of one value: one element in memory, repeated by zero strides.
  static func fill(_ shape: Shape, _ type: ElementType, _ value: Scalar) -> CPUArray {
    let element = CPUArray(uninitialized: [], type)
    store(value, type, element.pointer)
    return shape.isEmpty ? element : broadcast(element, shape)
  }

  /// Writes one number as an element of the given type, as ``convert(_:_:)`` would.
  public static func store(_ value: Scalar, _ type: ElementType, _ destination: UnsafeMutableRawPointer) {
    switch (value, type) {
    case (.double(let v), .float32): destination.storeBytes(of: Float(v), as: Float.self)
    case (.int(let v), .float32): destination.storeBytes(of: Float(v), as: Float.self)
    case (.int(let v), .int64): destination.storeBytes(of: Int64(v), as: Int64.self)
    case (.double(var v), _): apus_convert_flat(1, destination, type.code, &v, ElementType.float64.code)
    case (.int(var v), _): apus_convert_flat(1, destination, type.code, &v, ElementType.int64.code)
    case (.bool(let v), _):
      var byte: UInt8 = v ? 1 : 0
      apus_convert_flat(1, destination, type.code, &byte, ElementType.bool.code)
    }
  }

  static func iota(_ shape: Shape, _ type: ElementType, _ axis: Int) -> CPUArray {
    let line = CPUArray(uninitialized: [shape[axis]], type)
    if type.isFloatingPoint {
      apus_iota_real(type.code, Int64(shape[axis]), line.pointer, 0, 1)
    } else {
      apus_iota(type.code, Int64(shape[axis]), line.pointer, 0, 1)
    }
    var strides = Shape(repeating: 0, count: shape.count)
    strides[axis] = 1
    return CPUArray(view: line, shape: shape, strides: strides)
  }

  static func run(random p: RandomParameters, state: CPUArray, _ out: CPUArray) {
    let state = state.rowMajor()
    let words = state.pointer.assumingMemoryBound(to: UInt64.self)
    let (key, counter) = (words[0], words[1])
    let (type, count) = (p.elementType.code, Int64(out.elementCount))
    switch p.kind {
    case .uniform(let low, let high): apus_random_uniform(type, key, counter, out.pointer, count, low, high)
    case .normal(let mean, let deviation): apus_random_normal(type, key, counter, out.pointer, count, mean, deviation)
    case .truncatedNormal(let mean, let deviation, let low, let high):
      apus_random_truncated_normal(type, key, counter, out.pointer, count, mean, deviation, low, high)
    case .bernoulli(let probability): apus_random_bernoulli(type, key, counter, out.pointer, count, probability)
    case .integers(let low, let high): apus_random_integers(type, key, counter, out.pointer, count, Int64(low), Int64(high))
    case .permutation:
      apus_random_permutation(key, counter, out.pointer.assumingMemoryBound(to: Int64.self), count)
    case .bits: apus_random_bits(key, counter, out.pointer.assumingMemoryBound(to: UInt32.self), count)
    }
  }

  /// How far a random operation moves its generator's counter.
  public static func randomWords(_ type: ElementType, _ count: Int) -> UInt64 {
    // Permutations, the widest, take two words per element as int64 does.
    apus_random_words(type.code, Int64(count))
  }
}
