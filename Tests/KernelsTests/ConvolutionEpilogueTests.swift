import CApusKernels
import Foundation
import Testing

/// A 2-D convolution of 3x3, channels-last unless said otherwise, with operands of one type.
private final class Operands {
  var p = apus_convolution()
  let x, w, bias, residual: TypedMemory, outputs: Int
  private let shape: (batch: Int, channels: Int, rows: Int, cols: Int)

  init(
    _ type: apus_type, batch: Int, size: Int, cin: Int, cout: Int, groups: Int = 1, stride: Int = 1, seed: Int,
    residualChannelsLast: Bool = true
  ) {
    var g = CaseGenerator(seed: seed)
    let out = (size - 1) / stride + 1
    shape = (batch, cout, out, out)
    outputs = batch * cout * out * out
    func fill(_ count: Int) -> TypedMemory {
      let m = TypedMemory(type, count)
      for i in 0..<count { m[i] = type.rawValue < APUS_F16.rawValue ? Double(g.int(-3...3)) : Double(g.int(-64...64)) / 64 }
      return m
    }
    x = fill(batch * cin * size * size)
    w = fill(cout * (cin / groups) * 9)
    bias = fill(cout)
    residual = fill(outputs)
    (p.type, p.spatial_rank, p.batch, p.groups) = (Int32(type.rawValue), 2, Int64(batch), Int64(groups))
    (p.in_channels, p.out_channels) = (Int64(cin), Int64(cout))
    (p.in, p.kernel, p.out) = (triple([size, size]), triple([3, 3]), triple([out, out]))
    (p.stride, p.pad_low) = (triple([stride, stride]), triple([1, 1]))
    (p.kernel_dilation, p.input_dilation) = (triple([1, 1]), triple([1, 1]))
    (p.x_batch, p.x_channel, p.x_spatial) = (Int64(cin * size * size), 1, triple([size * cin, cin]))
    (p.w_out, p.w_in, p.w_spatial) = (Int64(cin / groups * 9), 9, triple([3, 1]))
    (p.y_batch, p.y_channel, p.y_spatial) = (Int64(cout * out * out), 1, triple([out * cout, cout]))
    p.residual_batch = Int64(cout * out * out)
    p.residual_channel = residualChannelsLast ? 1 : Int64(out * out)
    p.residual_spatial = residualChannelsLast ? triple([out * cout, cout]) : triple([out, 1])
    (p.x, p.w, p.bias) = (UnsafeRawPointer(x.bytes), UnsafeRawPointer(w.bytes), UnsafeRawPointer(bias.bytes))
  }

  func run(_ change: (inout apus_convolution) -> Void = { _ in }) -> TypedMemory {
    let y = TypedMemory(x.type, outputs)
    var p = self.p
    p.y = y.bytes
    change(&p)
    apus_convolution_forward(&p)
    return y
  }

  /// What is added to output i.
  func residual(of i: Int) -> Double {
    let channel = i % shape.channels, col = i / shape.channels % shape.cols, rest = i / shape.channels / shape.cols
    let row = rest % shape.rows, n = rest / shape.rows
    let pixel = n * Int(p.residual_batch) + row * Int(p.residual_spatial.0) + col * Int(p.residual_spatial.1)
    return residual[pixel + channel * Int(p.residual_channel)]
  }
}

private func activated(_ activation: apus_epilogue, _ v: Double) -> Double {
  switch activation {
  case APUS_EPILOGUE_RELU: max(v, 0)
  case APUS_EPILOGUE_GELU_ERF: 0.5 * v * erfc(-v / 2.0.squareRoot())
  case APUS_EPILOGUE_GELU_TANH: 0.5 * v * (1 + tanh((2 / Double.pi).squareRoot() * (v + 0.044715 * v * v * v)))
  case APUS_EPILOGUE_SIGMOID: 1 / (1 + exp(-v))
  case APUS_EPILOGUE_TANH: tanh(v)
  case APUS_EPILOGUE_SILU: v / (1 + exp(-v))
  default: v
  }
}

extension KernelStateTests {
  @Suite struct ConvolutionEpilogueTests {
    /// One convolution for each kernel.
    private func cases(_ type: apus_type, residualChannelsLast last: Bool) -> [(String, Operands)] {
      var all = [
        ("general", Operands(type, batch: 2, size: 9, cin: 6, cout: 19, seed: 1, residualChannelsLast: last)),
        ("strided", Operands(type, batch: 1, size: 9, cin: 5, cout: 66, stride: 2, seed: 2, residualChannelsLast: last)),
        ("depthwise", Operands(type, batch: 2, size: 7, cin: 21, cout: 21, groups: 21, seed: 3, residualChannelsLast: last)),
        ("few channels", Operands(type, batch: 1, size: 24, cin: 2, cout: 3, seed: 4, residualChannelsLast: last)),
        ("grouped", Operands(type, batch: 1, size: 8, cin: 12, cout: 38, groups: 2, seed: 5, residualChannelsLast: last)),
      ]
      if type.rawValue >= APUS_F16.rawValue {  // several blocks of the reduction
        all.append(("blocks", Operands(type, batch: 1, size: 5, cin: 90, cout: 33, seed: 6, residualChannelsLast: last)))
      }
      if type == APUS_F32 {
        let winograd = Operands(type, batch: 2, size: 10, cin: 18, cout: 37, seed: 7, residualChannelsLast: last)
        winograd.p.algorithm = Int32(APUS_CONVOLUTION_WINOGRAD.rawValue)
        all.append(("winograd", winograd))
      }
      return all
    }

    @Test(arguments: [APUS_F32, APUS_F64, APUS_F16, APUS_BF16, APUS_I32, APUS_I8].map(\.rawValue), [true, false])
    func equalsTheDefinition(type: UInt32, residualChannelsLast: Bool) {
      let type = apus_type(rawValue: type), floating = type.rawValue >= APUS_F16.rawValue
      let before = apus_current_isa()
      defer { _ = apus_set_isa(before) }
      var activations = [APUS_EPILOGUE_NONE, APUS_EPILOGUE_RELU]
      if floating {
        activations += [APUS_EPILOGUE_GELU_ERF, APUS_EPILOGUE_GELU_TANH, APUS_EPILOGUE_SIGMOID]
        activations += [APUS_EPILOGUE_TANH, APUS_EPILOGUE_SILU]
      }
      let unit = type == APUS_F64 ? 0x1p-50 : type == APUS_F32 ? 0x1p-21 : type == APUS_F16 ? 0x1p-10 : 0x1p-7
      for set in floating ? availableSets() : [before] {
        #expect(apus_set_isa(set))
        for (name, operands) in cases(type, residualChannelsLast: residualChannelsLast) {
          let sums = operands.run()
          for activation in activations {
            for withResidual in [true, false] {
              let y = operands.run { p in
                if withResidual { p.residual = UnsafeRawPointer(operands.residual.bytes) }
                p.activation = Int32(activation.rawValue)
              }
              var wrong: (Int, Double, Double)?
              for i in 0..<operands.outputs where wrong == nil {
                let sum = sums[i] + (withResidual ? operands.residual(of: i) : 0)
                let wrapped = type == APUS_I8 ? Double(Int8(truncatingIfNeeded: Int(sum))) : sum
                let exact = activated(activation, wrapped)
                let error = abs(y[i] - exact)
                if floating ? !(error <= unit * (1 + abs(sum))) : error != 0 { wrong = (i, y[i], exact) }
              }
              let text = "\(name), \(String(cString: apus_isa_name(set))), residual \(withResidual)"
              #expect(wrong == nil, "\(text), activation \(activation.rawValue)")
            }
          }
        }
      }
    }

    @Test(arguments: [APUS_F32, APUS_F64, APUS_F16].map(\.rawValue)) func preparedWeightsGiveTheSameBits(type: UInt32) {
      let type = apus_type(rawValue: type)
      let before = apus_current_isa()
      defer { _ = apus_set_isa(before) }
      var algorithms = [APUS_CONVOLUTION_AUTO]
      if type == APUS_F32 { algorithms += [APUS_CONVOLUTION_DIRECT, APUS_CONVOLUTION_WINOGRAD] }
      let shapes = [
        (1, 6, 20, 33, 1), (3, 14, 16, 70, 1), (9, 12, 40, 24, 1), (2, 9, 12, 24, 2), (1, 8, 8, 8, 8), (1, 5, 270, 20, 1),
      ]
      for set in availableSets() {
        #expect(apus_set_isa(set))
        for (batch, size, cin, cout, groups) in shapes {
          let operands = Operands(type, batch: batch, size: size, cin: cin, cout: cout, groups: groups, seed: cin)
          for algorithm in algorithms {
            operands.p.algorithm = Int32(algorithm.rawValue)
            let expected = operands.run(), bytes = apus_convolution_prepared_size(&operands.p)
            #expect((bytes == 0) == (groups == 8))
            guard bytes > 0 else { continue }
            let prepared = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
            defer { prepared.deallocate() }
            apus_convolution_prepare(&operands.p, prepared)
            // The weights themselves are not read any more.
            let nothing = TypedMemory(type, operands.w.count)
            for i in 0..<nothing.count { nothing[i] = .nan }
            let result = operands.run {
              $0.prepared = UnsafeRawPointer(prepared)
              $0.w = UnsafeRawPointer(nothing.bytes)
            }
            #expect(result.isIdentical(to: expected), "\(batch), \(cin) -> \(cout), algorithm \(algorithm.rawValue)")
            // Prepared for other images or another algorithm: what fits is used, w for the rest.
            for other in algorithms {
              let change: (inout apus_convolution) -> Void = {
                $0.algorithm = Int32(other.rawValue)
                $0.batch = 1
              }
              let plain = operands.run(change)
              let again = operands.run {
                change(&$0)
                $0.prepared = UnsafeRawPointer(prepared)
              }
              for i in 0..<operands.outputs / batch {
                #expect(abs(again[i] - plain[i]) <= 0x1p-9 * Double(cin).squareRoot(), "\(cin) -> \(cout) at \(i)")
              }
            }
          }
        }
        // Of another instruction set: passed over.
        let operands = Operands(type, batch: 1, size: 8, cin: 16, cout: 32, seed: 3)
        let bytes = apus_convolution_prepared_size(&operands.p)
        let prepared = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        defer { prepared.deallocate() }
        apus_convolution_prepare(&operands.p, prepared)
        #expect(apus_set_isa(availableSets()[0]))
        let result = operands.run { $0.prepared = UnsafeRawPointer(prepared) }
        #expect(result.isIdentical(to: operands.run()))
      }
    }
  }
}
