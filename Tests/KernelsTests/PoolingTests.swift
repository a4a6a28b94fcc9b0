import CApusKernels
import Testing

/// A random pooling and what the definition says of it.
private struct PoolingCase {
  var p = apus_pooling()
  let x, dy: TypedMemory
  let yCount: Int
  var y = [Int: Double](), dx = [Int: Double](), indices = [Int]()
  var text = ""

  init(seed: Int, type: apus_type, kind: apus_pool_kind) {
    var g = CaseGenerator(seed: seed)
    let rank = g.int(1...3), batch = g.chance(25) ? 0 : g.int(1...3), channels = g.chance(5) ? g.int(60...70) : g.int(1...21)
    let includePad = g.chance(2), tiled = g.chance(3)
    var input = [Int](), output = [Int](), window = [Int](), stride = [Int](), low = [Int](), high = [Int](), dilation = [Int]()
    for i in 0..<rank {
      window.append(g.int(1...3))
      stride.append(tiled ? window[i] : g.int(1...3))
      dilation.append(tiled || !g.chance(3) ? 1 : 2)
      input.append(tiled ? window[i] * g.int(1...3) : g.int(1...(rank == 3 ? 6 : 11)))
      low.append(tiled ? 0 : g.int(0...1))
      high.append(tiled ? 0 : g.int(0...1))
      let room = input[i] + low[i] + high[i] - ((window[i] - 1) * dilation[i] + 1)
      output.append(room < 0 ? 0 : room / stride[i] + 1)
    }
    let last: Bool? = g.chance(2) ? true : nil
    let xLayout = Layout(&g, batch: batch, channels: channels, spatial: input, channelsLast: last)
    let yLayout = Layout(&g, batch: batch, channels: channels, spatial: output, channelsLast: last)
    let floating = type.rawValue >= APUS_F16.rawValue
    // Few different values, so that equal maxima are common; sometimes a NaN.
    x = TypedMemory(type, xLayout.count)
    let withNaN = floating && kind == APUS_POOL_MAX && g.chance(2)
    for i in 0..<x.count { x[i] = withNaN && g.chance(9) ? .nan : Double(type == APUS_U8 ? g.int(0...5) : g.int(-5...5)) }
    dy = TypedMemory(type, yLayout.count)
    for i in 0..<dy.count { dy[i] = Double(type == APUS_U8 ? g.int(0...3) : g.int(-3...3)) }
    yCount = yLayout.count

    (p.type, p.spatial_rank, p.kind) = (Int32(type.rawValue), Int32(rank), Int32(kind.rawValue))
    (p.count_include_pad, p.batch, p.channels) = (includePad ? 1 : 0, Int64(batch), Int64(channels))
    (p.in, p.out, p.window, p.stride) = (triple(input), triple(output), triple(window), triple(stride))
    (p.pad_low, p.pad_high, p.dilation) = (triple(low), triple(high), triple(dilation))
    (p.x_batch, p.x_channel, p.x_spatial) = (Int64(xLayout.batch), Int64(xLayout.channel), xLayout.tuple)
    (p.y_batch, p.y_channel, p.y_spatial) = (Int64(yLayout.batch), Int64(yLayout.channel), yLayout.tuple)
    text = "seed \(seed), type \(type.rawValue), kind \(kind.rawValue), in \(input), out \(output), window \(window)"

    eachIndex([batch, channels] + input) { dx[xLayout.offset($0)] = 0 }
    eachIndex([batch, channels] + output) { at in
      let yAt = yLayout.offset(at), share = dy[yAt]
      var inside = [(offset: Int, flat: Int)](), counted = 0
      eachIndex(window) { q in
        var v = [Int]()
        for i in 0..<rank { v.append(at[2 + i] * stride[i] + q[i] * dilation[i] - low[i]) }
        if (0..<rank).allSatisfy({ v[$0] >= 0 && v[$0] < input[$0] }) {
          var flat = 0
          for i in 0..<rank { flat = flat * input[i] + v[i] }
          inside.append((xLayout.offset(at[..<2] + v), flat))
          counted += 1
        } else if includePad && (0..<rank).allSatisfy({ v[$0] >= -low[$0] && v[$0] < input[$0] + high[$0] }) {
          counted += 1
        }
      }
      if kind == APUS_POOL_MAX {
        var best: (offset: Int, flat: Int)?
        for tap in inside where best == nil || x[tap.offset].isNaN || x[tap.offset] > x[best!.offset] { best = tap }
        indices.append(best?.flat ?? -1)
        y[yAt] = best.map { x[$0.offset] } ?? lowest(type)
        if let best { dx[best.offset]! += share }
      } else {
        let divisor = kind == APUS_POOL_AVERAGE ? Double(max(counted, 1)) : 1
        y[yAt] = inside.reduce(0) { $0 + x[$1.offset] } / divisor
        for tap in inside { dx[tap.offset]! += share / divisor }
      }
    }
  }
}

private func lowest(_ type: apus_type) -> Double {
  switch type {
  case APUS_U8: 0
  case APUS_I8: -128
  case APUS_I16: -32768
  case APUS_I32: -0x1p31
  case APUS_I64: -0x1p63
  default: -.infinity
  }
}

extension KernelStateTests {
  @Suite struct PoolingTests {
    /// Sums of small integers are exact; a quotient, and the sum of up to 27 of them, is rounded in the type that holds it.
    private func tolerance(_ type: apus_type, _ exact: Double) -> Double {
      switch type {
      case APUS_F16: (abs(exact) + 1e-2) * 0x1p-10
      case APUS_BF16: (abs(exact) + 1e-2) * 0x1p-7
      case APUS_F32: 27 * 3 * 0x1p-24
      case APUS_F64: 27 * 3 * 0x1p-53
      default: 0
      }
    }

    private func differs(_ got: TypedMemory, _ expected: [Int: Double]) -> Int? {
      (0..<got.count).first { i in
        guard let exact = expected[i] else { return got[i] != 77 }
        if exact.isNaN || exact.isInfinite { return exact.isNaN ? !got[i].isNaN : got[i] != exact }
        return !(abs(got[i] - exact) <= tolerance(got.type, exact))
      }
    }

    private func filled(_ type: apus_type, _ count: Int) -> TypedMemory {
      let m = TypedMemory(type, count)
      for i in 0..<count { m[i] = 77 }
      return m
    }

    @Test(arguments: [APUS_POOL_MAX, APUS_POOL_AVERAGE, APUS_POOL_SUM].map(\.rawValue))
    func equalsTheDefinition(kind: UInt32) {
      let kind = apus_pool_kind(rawValue: kind), before = apus_current_isa()
      defer { _ = apus_set_isa(before) }
      let integers = kind == APUS_POOL_MAX ? [APUS_U8, APUS_I8, APUS_I16, APUS_I32, APUS_I64] : []
      for type in [APUS_F32, APUS_F64, APUS_F16, APUS_BF16] + integers {
        for seed in 0..<(type == APUS_F32 ? 60 : 15) {
          let c = PoolingCase(seed: seed, type: type, kind: kind)
          for set in availableSets() {
            #expect(apus_set_isa(set))
            var p = c.p
            let y = filled(type, c.yCount)
            (p.x, p.y) = (UnsafeRawPointer(c.x.bytes), y.bytes)
            apus_pooling_forward(&p)
            #expect(differs(y, c.y) == nil, "forward: \(c.text)")
            if type.rawValue >= APUS_F16.rawValue {
              let dx = filled(type, c.x.count)
              p.y = nil
              apus_pooling_gradient(&p, c.dy.bytes, dx.bytes)
              #expect(differs(dx, c.dx) == nil, "gradient: \(c.text)")
            }
            if kind == APUS_POOL_MAX {
              var indices = [Int64](repeating: -7, count: c.indices.count)
              apus_pooling_max_indices(&p, &indices)
              #expect(indices.map { Int($0) } == c.indices, "indices: \(c.text)")
            }
          }
        }
      }
    }
  }
}
