import ApusCPU
import Foundation
import Testing

@testable import ApusTensor

/// Quantization against PyTorch's values (Fixtures/make_quantized.py), and the product's forms against each other.
@Suite struct QuantizedTests {
  private static func fixture() throws -> [String: [String: Any]] {
    let url = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures/quantized.json")
    return try #require(try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: [String: Any]])
  }

  private func tensor(_ object: Any?, _ type: ElementType = .float32) throws -> Tensor {
    let c = try IndexingFixtures.Case(object)
    return Tensor(c.values, shape: Shape(c.shape)).converted(to: type)
  }

  @Test(arguments: [ElementType.int8, .uint8]) func perTensorValuesAreThoseOfPyTorch(_ type: ElementType) throws {
    let fixture = try Self.fixture()
    let x = try tensor(fixture["x"])
    let expected = try #require(fixture["\(type)"])
    let zeroPoint = Tensor(try #require(expected["zeroPoint"] as? Int)).converted(to: .int32)
    let scale = Tensor(Float(0.125))
    let q = quantize(x, scale: scale, zeroPoint: zeroPoint, type: type)
    #expect(q.elementType == type)
    expectEqual(q, try IndexingFixtures.Case(expected["values"]))
    expectEqual(dequantize(q, scale: scale, zeroPoint: zeroPoint), try IndexingFixtures.Case(expected["dequantized"]))
  }

  @Test func perChannelValuesAreThoseOfPyTorch() throws {
    let expected = try #require(try Self.fixture()["channels"])
    let scale = try tensor(expected["scales"])
    let q = quantize(try tensor(expected["x"]), scale: scale, zeroPoint: Tensor.zeros([6], .int32))
    expectEqual(q, try IndexingFixtures.Case(expected["values"]))
    let dequantized = QuantizedTensor(values: q, scale: scale, zeroPoint: Tensor.zeros([6], .int32)).dequantized()
    expectEqual(dequantized, try IndexingFixtures.Case(expected["dequantized"]))
  }

  @Test func linearLayersAreThoseOfPyTorch() throws {
    let fixture = try Self.fixture()
    let linear = try #require(fixture["linear"])
    let weight = QuantizedTensor(
      values: try tensor(linear["w"], .int8), scale: try tensor(linear["scales"]), zeroPoint: Tensor.zeros([11], .int32))
    let bias = try tensor(linear["b"])
    let x = QuantizedTensor(
      values: try tensor(linear["x"], .uint8), scale: Tensor(Float(0.03)), zeroPoint: Tensor(121).converted(to: .int32))
    let y = quantizedLinear(x, weight, bias)
    expectEqual(y, try IndexingFixtures.Case(linear["y"]), tolerance: 1e-6)
    #expect(bits(quantizedLinear(x, weight.prepared(), bias)) == bits(y))

    let dynamic = try #require(fixture["dynamic"])
    let input = try tensor(dynamic["x"])
    let got = quantizedLinear(quantizeDynamically(input, type: .uint8), weight, bias)
    // PyTorch rounds the zero point and some inputs to a neighbour: each of 40 terms may be off by one step of x.
    let step = quantizeDynamically(input, type: .uint8).scale.item(as: Double.self)
    let largest = abs(weight.dequantized()).sum(axis: 1).max().item(as: Double.self)
    let expected = try tensor(dynamic["y"])
    #expect(abs(got - expected).max().item(as: Double.self) <= step * largest / 8)
  }

  @Test func quantizedWeightsComeBackWithinHalfAStep() {
    let w = Input([7, 3, 5], .unit, seed: 3).tensor(.float32) * Tensor((1...7).map { Float($0) }, shape: [7, 1, 1])
    for perChannel in [true, false] {
      let q = quantizeWeight(w, perChannel: perChannel)
      #expect(q.values.elementType == .int8 && q.scale.shape == (perChannel ? [7] : []))
      #expect(abs(q.values.converted(to: .int32)).max().item(as: Int.self) == 127)
      let off = abs(q.dequantized() - w)
      let half = q.scale.reshaped(perChannel ? [7, 1, 1] : []) * 0.50002  // float32 rounds 127 steps to 2⁻¹⁷ of one
      #expect((off .<= half.broadcast(to: w.shape)).all().item(as: Bool.self))
    }
  }

  @Test(arguments: [ElementType.int8, .uint8], [true, false])
  func dynamicQuantizationCoversTheValues(_ type: ElementType, _ perRow: Bool) {
    let x = Input([4, 3, 33], .signed, seed: 2).tensor(.float32) + Tensor([3.0, 0, -9], shape: [3, 1]).converted(to: .float32)
    let q = quantizeDynamically(x, type: type, perRow: perRow)
    #expect(q.values.type == TensorType(x.shape, type) && q.scale.shape == (perRow ? [4, 3] : []))
    let step = perRow ? q.scale.expanded(at: -1) : q.scale
    // Half a step from the value, half a step from the zero point.
    #expect((abs(q.dequantized() - x) .<= (step * 1.00004).broadcast(to: x.shape)).all().item(as: Bool.self))
    // Zero stands for zero, also where there is nothing else.
    let nothing = quantizeDynamically(Tensor.zeros([2, 3]), type: type, perRow: perRow)
    #expect(nothing.dequantized().elements(as: Float.self) == [0, 0, 0, 0, 0, 0])
    #expect(quantizeDynamically(Tensor.zeros([2, 0]), type: type, perRow: perRow).values.shape == [2, 0])
  }

  @Test func productsOfTransposedWeightsAndPreparedOnes() {
    let x = quantizeDynamically(Input([70, 45], seed: 1).tensor(.float32), perRow: true)
    let w = quantizeWeight(Input([37, 45], seed: 2).tensor(.float32), perChannel: false)
    let expected = quantizedLinear(x, w)
    let transposed = QuantizedTensor(values: w.values.transposed().contiguous(), scale: w.scale, zeroPoint: w.zeroPoint)
    #expect(bits(quantizedMatmul(x, transposed)) == bits(expected))
    #expect(bits(quantizedLinear(x, w.prepared())) == bits(expected))
    let view = QuantizedTensor(values: Layout.strided.view(w.values), scale: w.scale, zeroPoint: w.zeroPoint)
    #expect(bits(quantizedLinear(x, view.prepared())) == bits(expected))
    #expect(allClose(expected, x.dequantized().matmul(w.dequantized().transposed()), relative: 1e-5, absolute: 1e-3))
    #expect(allClose(dynamicallyQuantizedLinear(x.dequantized(), w), expected, relative: 1e-5, absolute: 1e-3))
  }

  private func message(_ result: ExitTest.Result?) -> String {
    String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
  }

  @Test func mistakesAreNamed() async {
    let gradient = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let x = quantizeDynamically(Tensor.ones([2, 3]))
      let bias = Parameter(Tensor.zeros([4]))
      _ = quantizedLinear(x, quantizeWeight(Tensor.ones([4, 3])).prepared(), bias.value).sum().gradients(for: [bias])
    }
    #expect(message(gradient).contains("quantizedDot: has no gradient, since its integer operands change in steps"))
    let zeroPoint = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let x = QuantizedTensor(
        values: Tensor.zeros([2, 3], .int8), scale: Tensor(Float(1)), zeroPoint: Tensor([0, 200]).converted(to: .int32))
      _ = quantizedLinear(x, quantizeWeight(Tensor.ones([4, 3])))
    }
    #expect(message(zeroPoint).contains("quantizedDot: the zero point 200 at index 1 is not a value of int8"))
    let weight = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let x = quantizeDynamically(Tensor.ones([2, 3]))
      let one = Tensor(1).converted(to: .int32)
      _ = quantizedLinear(x, QuantizedTensor(values: Tensor.zeros([4, 3], .int8), scale: Tensor(Float(1)), zeroPoint: one))
    }
    #expect(message(weight).contains("quantizedLinear: the weight's zero points must be 0, got 1"))
    let features = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = quantizedLinear(quantizeDynamically(Tensor.ones([2, 3])), quantizeWeight(Tensor.ones([4, 5])).prepared())
    }
    #expect(
      message(features).contains("quantizedDot: the input of shape [2, 3] has 3 features; a weight of shape [4, 5] takes 5"))
    let scale = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = quantize(Tensor.ones([2, 3]), scale: Tensor.ones([3]), zeroPoint: Tensor(0))
    }
    #expect(message(scale).contains("quantize: scale and zero point of shape [3] do not begin the shape [2, 3]"))
  }
}
