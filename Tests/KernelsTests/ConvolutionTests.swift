import CApusKernels
import Testing

/// A small generator, so that a failing case can be run again by its seed.
struct CaseGenerator {
  private var state: UInt64
  init(seed: Int) {
    state = UInt64(truncatingIfNeeded: seed) &* 0x9E37_79B9_7F4A_7C15 &+ 1
    for _ in 0..<4 { _ = next() }
  }
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state >> 33
  }
  mutating func int(_ range: ClosedRange<Int>) -> Int { range.lowerBound + Int(next() % UInt64(range.count)) }
  mutating func chance(_ oneIn: Int) -> Bool { next() % UInt64(oneIn) == 0 }
}

/// Memory of one element type whose elements are read and written as `Double`; the values used are exact in it.
final class TypedMemory {
  let type: apus_type
  let count: Int
  let bytes: UnsafeMutableRawPointer
  init(_ type: apus_type, _ count: Int) {
    self.type = type
    self.count = count
    bytes = .allocate(byteCount: max(count, 1) * 8, alignment: 64)
  }
  deinit { bytes.deallocate() }
  subscript(i: Int) -> Double {
    get {
      switch type {
      case APUS_U8: Double(bytes.load(fromByteOffset: i, as: UInt8.self))
      case APUS_I8: Double(bytes.load(fromByteOffset: i, as: Int8.self))
      case APUS_I16: Double(bytes.load(fromByteOffset: 2 * i, as: Int16.self))
      case APUS_I32: Double(bytes.load(fromByteOffset: 4 * i, as: Int32.self))
      case APUS_I64: Double(bytes.load(fromByteOffset: 8 * i, as: Int64.self))
      case APUS_F16: halfValue(bytes.load(fromByteOffset: 2 * i, as: UInt16.self))
      case APUS_BF16: Double(Float(bitPattern: UInt32(bytes.load(fromByteOffset: 2 * i, as: UInt16.self)) << 16))
      case APUS_F32: Double(bytes.load(fromByteOffset: 4 * i, as: Float.self))
      default: bytes.load(fromByteOffset: 8 * i, as: Double.self)
      }
    }
    set {
      switch type {
      case APUS_U8: bytes.storeBytes(of: UInt8(newValue), toByteOffset: i, as: UInt8.self)
      case APUS_I8: bytes.storeBytes(of: Int8(newValue), toByteOffset: i, as: Int8.self)
      case APUS_I16: bytes.storeBytes(of: Int16(newValue), toByteOffset: 2 * i, as: Int16.self)
      case APUS_I32: bytes.storeBytes(of: Int32(newValue), toByteOffset: 4 * i, as: Int32.self)
      case APUS_I64: bytes.storeBytes(of: Int64(newValue), toByteOffset: 8 * i, as: Int64.self)
      case APUS_F16: bytes.storeBytes(of: halfBits(newValue), toByteOffset: 2 * i, as: UInt16.self)
      case APUS_BF16: bytes.storeBytes(of: UInt16(Float(newValue).bitPattern >> 16), toByteOffset: 2 * i, as: UInt16.self)
      case APUS_F32: bytes.storeBytes(of: Float(newValue), toByteOffset: 4 * i, as: Float.self)
      default: bytes.storeBytes(of: newValue, toByteOffset: 8 * i, as: Double.self)
      }
    }
  }
  /// Whether both hold the same bytes.
  func isIdentical(to other: TypedMemory) -> Bool {
    let size = Int(apus_type_size(Int32(type.rawValue))) * count
    let mine = UnsafeRawBufferPointer(start: bytes, count: size)
    return mine.elementsEqual(UnsafeRawBufferPointer(start: other.bytes, count: size))
  }
}

/// The value of a half by its definition.
private func halfValue(_ bits: UInt16) -> Double {
  let sign = bits >> 15 == 0 ? 1.0 : -1.0, exponent = Int(bits >> 10 & 31), fraction = Double(bits & 1023)
  if exponent == 31 { return fraction == 0 ? sign * .infinity : .nan }
  if exponent == 0 { return sign * fraction * 0x1p-24 }
  return sign * (1 + fraction / 1024) * Double(sign: .plus, exponent: exponent - 15, significand: 1)
}

/// The bits of a value that a half holds exactly, and of infinity and NaN.
private func halfBits(_ value: Double) -> UInt16 {
  let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
  if value.isNaN { return 0x7e00 }
  if value.isInfinite { return sign | 0x7c00 }
  let magnitude = abs(value)
  if magnitude < 0x1p-14 { return sign | UInt16(magnitude * 0x1p24) }
  return sign | UInt16(Int(magnitude.exponent) + 15) << 10 | UInt16((magnitude.significand - 1) * 1024)
}

/// Strides of a [batch, channels, spatial...] operand in one of the layouts under test.
struct Layout {
  var batch = 0, channel = 0, spatial = [Int](), count = 0
  init(_ generator: inout CaseGenerator, batch n: Int, channels c: Int, spatial sizes: [Int], channelsLast: Bool? = nil) {
    let gap = generator.chance(3) ? 1 : 0, last = channelsLast ?? generator.chance(2)
    spatial = [Int](repeating: 0, count: sizes.count)
    var step = 1
    if last {
      channel = 1
      step = c + gap
    } else {
      step += gap
    }
    for i in sizes.indices.reversed() {
      spatial[i] = step
      step *= sizes[i]
    }
    if !last {
      channel = step
      step *= c
    }
    batch = step
    count = step * n
  }
  var tuple: (Int64, Int64, Int64) { triple(spatial, 0) }
  /// Where the element at [batch, channel, spatial...] lies.
  func offset(_ index: [Int]) -> Int { zip(index, [batch, channel] + spatial).reduce(0) { $0 + $1.0 * $1.1 } }
}

func triple(_ a: [Int], _ fill: Int = 1) -> (Int64, Int64, Int64) {
  (Int64(a[0]), Int64(a.count > 1 ? a[1] : fill), Int64(a.count > 2 ? a[2] : fill))
}

/// Every index tuple of a shape.
func eachIndex(_ shape: [Int], _ body: ([Int]) -> Void) {
  if shape.contains(0) { return }
  var index = [Int](repeating: 0, count: shape.count)
  while true {
    body(index)
    var d = shape.count - 1
    while d >= 0 {
      index[d] += 1
      if index[d] < shape[d] { break }
      index[d] = 0
      d -= 1
    }
    if d < 0 { return }
  }
}

func availableSets() -> [apus_isa] {
  let best = apus_best_isa()
  if best == APUS_ISA_NEON { return [best] }
  return [APUS_ISA_BASELINE, APUS_ISA_AVX2, APUS_ISA_AVX512].filter { $0.rawValue <= best.rawValue }
}

/// A random convolution with its operands and what the definition, summed in `Double`, says of all three passes.
private struct ConvolutionCase {
  var p = apus_convolution()
  let x, w, y, bias: TypedMemory
  var expected = [[Int: Double]](repeating: [:], count: 3)  // y, dx, dw by element offset
  var text = ""

  /// `wide`: channels enough for several panels and for several blocks of the reduction.
  init(seed: Int, type: apus_type, depthwise: Bool = false, wide: Bool = false) {
    var g = CaseGenerator(seed: seed)
    let rank = wide ? 2 : g.int(1...3), size = wide ? 4 : rank == 3 ? 5 : rank == 2 ? 9 : 30
    let batch = g.chance(25) ? 0 : g.int(1...3), groups = depthwise ? g.int(2...37) : g.chance(3) && !wide ? g.int(2...3) : 1
    let cin = wide ? g.int(75...90) : depthwise ? 1 : g.chance(4) ? g.int(1...2) : g.int(1...13)
    let few = depthwise ? (g.chance(2) ? 1 : g.int(1...3)) : g.chance(12) ? g.int(30...70) : g.int(1...20)
    let cout = wide ? g.int(65...90) : few
    var kernel = [Int](), input = [Int](), output = [Int]()
    var stride = [Int](), low = [Int](), dilation = [Int](), inputDilation = [Int]()
    for i in 0..<rank {
      kernel.append(wide ? 3 : g.int(1...(rank == 3 ? 3 : 4)))
      input.append(g.chance(40) ? 0 : g.int(1...size))
      stride.append(g.chance(2) ? 1 : g.int(1...3))
      dilation.append(g.chance(3) ? g.int(1...3) : 1)
      inputDilation.append(g.chance(3) ? g.int(1...3) : 1)
      low.append(g.int(-2...3))
      let extent = input[i] == 0 ? 0 : (input[i] - 1) * inputDilation[i] + 1
      let room = extent + low[i] + g.int(-1...3) - ((kernel[i] - 1) * dilation[i] + 1)
      output.append(room < 0 ? 0 : room / stride[i] + 1)
    }
    let xLayout = Layout(&g, batch: batch, channels: cin * groups, spatial: input)
    let wLayout = Layout(&g, batch: cout * groups, channels: cin, spatial: kernel)
    let yLayout = Layout(&g, batch: batch, channels: cout * groups, spatial: output)
    let flip = g.chance(3), withBias = g.chance(2)
    // Multiples of 1/8 up to 1: all products and sums are exact in float32, so only the last rounding is left.
    let integral = type.rawValue < APUS_F16.rawValue
    func fill(_ m: TypedMemory) -> TypedMemory {
      for i in 0..<m.count {
        m[i] = integral ? Double(type == APUS_U8 ? g.int(0...1) : g.int(-1...1)) : Double(g.int(-8...8)) / 8
      }
      return m
    }
    x = fill(TypedMemory(type, xLayout.count))
    w = fill(TypedMemory(type, wLayout.count))
    y = fill(TypedMemory(type, yLayout.count))
    bias = fill(TypedMemory(type, cout * groups))
    let relu = g.chance(2)

    p.type = Int32(type.rawValue)
    p.spatial_rank = Int32(rank)
    (p.batch, p.groups) = (Int64(batch), Int64(groups))
    (p.in_channels, p.out_channels) = (Int64(cin * groups), Int64(cout * groups))
    (p.in, p.kernel, p.out) = (triple(input), triple(kernel), triple(output))
    (p.stride, p.pad_low) = (triple(stride), triple(low))
    (p.kernel_dilation, p.input_dilation) = (triple(dilation), triple(inputDilation))
    (p.x_batch, p.x_channel, p.x_spatial) = (Int64(xLayout.batch), Int64(xLayout.channel), xLayout.tuple)
    (p.w_out, p.w_in, p.w_spatial) = (Int64(wLayout.batch), Int64(wLayout.channel), wLayout.tuple)
    (p.y_batch, p.y_channel, p.y_spatial) = (Int64(yLayout.batch), Int64(yLayout.channel), yLayout.tuple)
    p.flip_kernel = flip ? 1 : 0
    p.activation = Int32((relu ? APUS_EPILOGUE_RELU : APUS_EPILOGUE_NONE).rawValue)
    if withBias { p.bias = UnsafeRawPointer(bias.bytes) }
    text = "seed \(seed), type \(type.rawValue), \(groups) x (\(cin) -> \(cout)), in \(input), kernel \(kernel), out \(output)"

    var ys = [Int: Double](), dx = [Int: Double](), dw = [Int: Double]()
    eachIndex([batch, cin * groups] + input) { dx[xLayout.offset($0)] = 0 }
    eachIndex([cout * groups, cin] + kernel) { dw[wLayout.offset($0)] = 0 }
    eachIndex([batch] + output) { at in
      var taps = [(x: Int, w: Int)]()
      eachIndex(kernel) { q in
        var xs = at[0] * xLayout.batch, ws = 0
        for i in 0..<rank {
          let v = at[1 + i] * stride[i] + q[i] * dilation[i] - low[i]
          if v < 0 || v % inputDilation[i] != 0 || v / inputDilation[i] >= input[i] { return }
          xs += v / inputDilation[i] * xLayout.spatial[i]
          ws += (flip ? kernel[i] - 1 - q[i] : q[i]) * wLayout.spatial[i]
        }
        taps.append((xs, ws))
      }
      for o in 0..<cout * groups {
        let yi = yLayout.offset([at[0], o] + at[1...]), dy = y[yi]
        var sum = withBias ? bias[o] : 0
        for tap in taps {
          for c in 0..<cin {
            let xi = tap.x + (o / cout * cin + c) * xLayout.channel, wi = tap.w + o * wLayout.batch + c * wLayout.channel
            sum += x[xi] * w[wi]
            dx[xi]! += dy * w[wi]
            dw[wi]! += dy * x[xi]
          }
        }
        ys[yi] = relu && sum < 0 ? 0 : sum
      }
    }
    expected = [ys, dx, dw]
  }

  /// Runs a pass into memory that holds 77 beforehand.
  func run(_ pass: Int) -> TypedMemory {
    let result = TypedMemory(y.type, [y, x, w][pass].count)
    for i in 0..<result.count { result[i] = 77 }
    var q = p
    (q.x, q.w, q.y) = (UnsafeRawPointer(x.bytes), UnsafeRawPointer(w.bytes), y.bytes)
    switch pass {
    case 0:
      q.y = result.bytes
      apus_convolution_forward(&q)
    case 1:
      q.x = UnsafeRawPointer(result.bytes)
      apus_convolution_input_gradient(&q)
    default:
      q.w = UnsafeRawPointer(result.bytes)
      apus_convolution_weight_gradient(&q)
    }
    return result
  }
}

extension KernelStateTests {
  @Suite struct ConvolutionTests {
    /// What one rounding of an exact sum may lose; integers wrap around.
    private func matches(_ got: Double, _ exact: Double, _ type: apus_type) -> Bool {
      switch type {
      case APUS_F16: abs(got - exact) <= abs(exact) * 0x1p-11
      case APUS_BF16: abs(got - exact) <= abs(exact) * 0x1p-8
      case APUS_U8: got == Double(UInt8(truncatingIfNeeded: Int(exact)))
      case APUS_I8: got == Double(Int8(truncatingIfNeeded: Int(exact)))
      default: got == exact
      }
    }

    private func check(_ c: ConvolutionCase, _ note: String) {
      for pass in 0..<3 {
        let result = c.run(pass)
        var wrong: (Int, Double, Double)?
        for i in 0..<result.count where wrong == nil {
          if let exact = c.expected[pass][i] {
            if !matches(result[i], exact, c.y.type) { wrong = (i, result[i], exact) }
          } else if result[i] != 77 {
            wrong = (i, result[i], 77)  // an element that is not part of the result was written
          }
        }
        #expect(wrong == nil, "\(["forward", "input gradient", "weight gradient"][pass]), \(note): \(c.text)")
      }
    }

    @Test(arguments: [APUS_F32, APUS_F64, APUS_F16, APUS_BF16, APUS_U8, APUS_I8, APUS_I16, APUS_I32, APUS_I64].map(\.rawValue))
    func equalsTheDefinition(type: UInt32) {
      let type = apus_type(rawValue: type), floating = type.rawValue >= APUS_F16.rawValue
      let before = apus_current_isa()
      defer { _ = apus_set_isa(before) }
      for seed in 0..<(type == APUS_F32 ? 60 : 20) {
        let c = ConvolutionCase(seed: seed, type: type, depthwise: seed % 4 == 3)
        for set in floating ? availableSets() : [before] {
          #expect(apus_set_isa(set))
          check(c, String(cString: apus_isa_name(set)))
        }
      }
    }

    @Test(arguments: [APUS_F32, APUS_F64].map(\.rawValue), 0..<3) func manyChannelsEqualTheDefinition(type: UInt32, seed: Int) {
      let before = apus_current_isa()
      defer { _ = apus_set_isa(before) }
      let c = ConvolutionCase(seed: seed, type: apus_type(rawValue: type), wide: true)
      for set in availableSets() {
        #expect(apus_set_isa(set))
        check(c, String(cString: apus_isa_name(set)))
      }
    }

    @Test func sameBitsAtAnyThreadCount() {
      let before = apus_thread_count()
      defer { apus_set_thread_count(Int32(before)) }
      // Values with sums that round, so that another order of additions would show.
      let shapes = [(5, 16, 24, 14, 1), (33, 3, 6, 12, 1), (1, 80, 96, 7, 1), (2, 40, 40, 20, 40), (3, 12, 8, 9, 4)]
      for (batch, cin, cout, size, groups) in shapes {
        var g = CaseGenerator(seed: batch)
        let x = TypedMemory(APUS_F32, batch * cin * size * size), y = TypedMemory(APUS_F32, batch * cout * size * size)
        let w = TypedMemory(APUS_F32, cout * (cin / groups) * 9)
        for m in [x, y, w] { for i in 0..<m.count { m[i] = Double(g.int(-1_000_000...1_000_000)) / 1_234_567 } }
        var p = apus_convolution()
        (p.type, p.spatial_rank, p.batch, p.groups) = (Int32(APUS_F32.rawValue), 2, Int64(batch), Int64(groups))
        (p.in_channels, p.out_channels) = (Int64(cin), Int64(cout))
        (p.in, p.kernel, p.out, p.stride) = (triple([size, size]), triple([3, 3]), triple([size, size]), triple([1, 1]))
        (p.pad_low, p.kernel_dilation, p.input_dilation) = (triple([1, 1]), triple([1, 1]), triple([1, 1]))
        (p.x_batch, p.x_channel, p.x_spatial) = (Int64(cin * size * size), 1, triple([size * cin, cin]))
        (p.y_batch, p.y_channel, p.y_spatial) = (Int64(cout * size * size), 1, triple([size * cout, cout]))
        (p.w_out, p.w_in, p.w_spatial) = (Int64(cin / groups * 9), 9, triple([3, 1]))
        var first = [TypedMemory]()
        for threads in [1, 2, 3, 8] {
          apus_set_thread_count(Int32(threads))
          let results = [TypedMemory(APUS_F32, y.count), TypedMemory(APUS_F32, x.count), TypedMemory(APUS_F32, w.count)]
          (p.x, p.w, p.y) = (UnsafeRawPointer(x.bytes), UnsafeRawPointer(w.bytes), results[0].bytes)
          apus_convolution_forward(&p)
          (p.x, p.w, p.y) = (UnsafeRawPointer(results[1].bytes), UnsafeRawPointer(w.bytes), y.bytes)
          apus_convolution_input_gradient(&p)
          (p.x, p.w, p.y) = (UnsafeRawPointer(x.bytes), UnsafeRawPointer(results[2].bytes), y.bytes)
          apus_convolution_weight_gradient(&p)
          if threads == 1 { first = results }
          for i in 0..<3 { #expect(results[i].isIdentical(to: first[i]), "pass \(i), \(threads) threads, groups \(groups)") }
        }
      }
    }
  }
}
