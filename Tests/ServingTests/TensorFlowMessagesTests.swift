import Apus
import ApusExport
import ApusServables
import ApusServingProtocols
import Foundation
import GRPCCore
import SwiftProtobuf
import Testing

@testable import ApusServing

private func tensor(_ proto: Tensorflow_TensorProto, _ spec: TensorSpec, limit: Int = 1 << 20) throws -> Tensor {
  let bytes: [UInt8] = try proto.serializedBytes()
  return try bytes.withUnsafeBytes { bytes in
    try TensorMessage(bytes).tensor(for: Signature.Input(name: "x", spec: spec), limit: limit)
  }
}

private func proto(_ type: Tensorflow_DataType, _ shape: [Int], _ fill: (inout Tensorflow_TensorProto) -> Void = { _ in })
  -> Tensorflow_TensorProto
{
  var proto = Tensorflow_TensorProto()
  proto.dtype = type
  proto.tensorShape.dim = shape.map { size in .with { $0.size = Int64(size) } }
  fill(&proto)
  return proto
}

/// Bytes of a PredictRequest, decoded for a fake.
private func request(_ message: Tensorflow_Serving_PredictRequest, _ servable: FakeServable) throws -> InferenceRequest {
  let bytes: [UInt8] = try message.serializedBytes()
  return try bytes.withUnsafeBytes {
    try PredictMessage($0, limits: ServingLimits()).request(for: servable, maxRequestBytes: 1 << 20)
  }
}

private func error(_ body: () throws -> Void) -> String {
  do {
    try body()
    return "no error"
  } catch { return "\(error)" }
}

@Suite struct TensorFlowMessagesTests {
  @Test func readsContent() throws {
    let values: [Float] = [1, -2.5, .nan, 4, 5, 6]
    let message = proto(.dtFloat, [2, 3]) { $0.tensorContent = values.withUnsafeBytes { Data($0) } }
    let read = try tensor(message, .float32(["batch", 3]))
    #expect(read.shape == [2, 3] && read.floats.map(\.bitPattern) == values.map(\.bitPattern))
    let flags = try tensor(proto(.dtBool, [3]) { $0.tensorContent = Data([0, 1, 7]) }, .bool([3]))
    #expect(flags.elements(as: Bool.self) == [false, true, true])
  }

  @Test func readsTypedValues() throws {
    #expect(try tensor(proto(.dtFloat, [2]) { $0.floatVal = [1.5, -2] }, .float32([2])).floats == [1.5, -2])
    #expect(
      try tensor(proto(.dtDouble, [2]) { $0.doubleVal = [1e300, -2] }, .float64([2])).elements(as: Double.self) == [1e300, -2])
    #expect(try tensor(proto(.dtInt32, [2]) { $0.intVal = [.min, .max] }, .int32([2])).elements(as: Int32.self) == [.min, .max])
    #expect(try tensor(proto(.dtInt16, [2]) { $0.intVal = [-32768, 7] }, .int16([2])).elements(as: Int16.self) == [-32768, 7])
    #expect(try tensor(proto(.dtInt8, [2]) { $0.intVal = [-128, 7] }, .int8([2])).elements(as: Int8.self) == [-128, 7])
    #expect(try tensor(proto(.dtUint8, [2]) { $0.intVal = [255, 7] }, .uint8([2])).elements(as: UInt8.self) == [255, 7])
    #expect(
      try tensor(proto(.dtInt64, [2]) { $0.int64Val = [.min, .max] }, .int64([2])).elements(as: Int64.self) == [.min, .max])
    #expect(
      try tensor(proto(.dtBool, [3]) { $0.boolVal = [true, false, true] }, .bool([3])).elements(as: Bool.self) == [
        true, false, true,
      ])
    #expect(
      try tensor(proto(.dtHalf, [2]) { $0.halfVal = [0x3c00, 0xc100] }, .float16([2])).converted(to: .float32).floats == [
        1, -2.5,
      ])
    #expect(
      try tensor(proto(.dtBfloat16, [2]) { $0.halfVal = [0x3f80, 0xc020] }, .bfloat16([2])).converted(to: .float32).floats == [
        1, -2.5,
      ])
    // The last value stands for all that follow; none stands for zeros.
    #expect(try tensor(proto(.dtFloat, [2, 2]) { $0.floatVal = [1, 2] }, .float32([2, 2])).floats == [1, 2, 2, 2])
    #expect(try tensor(proto(.dtInt64, [3]) { $0.int64Val = [9] }, .int64([3])).elements(as: Int64.self) == [9, 9, 9])
    #expect(try tensor(proto(.dtFloat, [2]), .float32([2])).floats == [0, 0])
    #expect(try tensor(proto(.dtFloat, []) { $0.floatVal = [3] }, .float32([])).shape == [])
    #expect(
      try tensor(proto(.dtString, [2]) { $0.stringVal = [Data("ab".utf8), Data("cd".utf8)] }, .uint8(["batch", 2])).elements(
        as: UInt8.self) == [97, 98, 99, 100])
  }

  /// Writers may leave values unpacked, or split them: field 5 twice, one a single value.
  @Test func readsUnpackedValues() throws {
    var bytes: [UInt8] = [0x08, 1, 0x12, 4, 0x12, 2, 0x08, 3]  // float, [3]
    bytes += [0x2d] + withUnsafeBytes(of: Float(1.5).bitPattern) { Array($0) }
    bytes +=
      [0x2a, 8] + withUnsafeBytes(of: Float(2.5).bitPattern) { Array($0) }
      + withUnsafeBytes(of: Float(3.5).bitPattern) { Array($0) }
    let tensor = try bytes.withUnsafeBytes {
      try TensorMessage($0).tensor(for: .init(name: "x", spec: .float32([3])), limit: 100)
    }
    #expect(tensor.floats == [1.5, 2.5, 3.5])
    let generated = try Tensorflow_TensorProto(serializedBytes: bytes)
    #expect(generated.floatVal == [1.5, 2.5, 3.5])
  }

  @Test func refusesBadTensors() {
    let spec = TensorSpec.float32(["batch", 2])
    for (message, expected) in [
      (proto(.dtFloat, [-1, 2]), "negative size -1"), (proto(.dtFloat, [2, 3]), "must be float32[batch, 2], got float32[2, 3]"),
      (proto(.dtFloat, [2]), "must be float32[batch, 2], got float32[2]"),
      (proto(.dtInt32, [1, 2]), "must be float32[batch, 2], got int32[1, 2]"),
      (proto(.dtUint16, [1, 2]), "the type DT_UINT16 is not supported; the model takes DT_FLOAT"),
      (proto(.dtString, [1, 2]), "DT_STRING is not supported"), (proto(.dtResource, [1, 2]), "DT_RESOURCE is not supported"),
      (proto(.UNRECOGNIZED(999), [1, 2]), "type 999 is not supported"), (proto(.dtInvalid, [1, 2]), "DT_INVALID"),
      (proto(.dtFloat, [1, 2]) { $0.tensorShape.unknownRank = true }, "unknown rank"),
      (proto(.dtFloat, [4_194_305, 4_194_305, 211_106_198_978_564]), "more elements than 64 bits"),
      (proto(.dtFloat, [1 << 40, 2]), "more than the 1048576 bytes"), (proto(.dtFloat, [0, 2]), "must be at least 1, got 0"),
      (proto(.dtFloat, [1, 2]) { $0.tensorContent = Data([1, 2, 3]) }, "tensor_content has 3 bytes, but float32[1, 2] takes 8"),
      (proto(.dtFloat, [1, 2]) { $0.floatVal = [1, 2, 3] }, "more values than its shape"),
      (proto(.dtFloat, Array(repeating: 1, count: 9)), "at most 8 dimensions"),
      (proto(.dtFloat, Array(repeating: 1, count: 300)), "more than 254 dimensions"),
    ] {
      let found = error { _ = try tensor(message, spec) }
      #expect(found.contains(expected), "\(found)")
    }
    #expect(
      error { _ = try tensor(proto(.dtUint8, [1]) { $0.intVal = [256] }, .uint8([1])) }.contains(
        "the value 256 is not within uint8"))
    #expect(error { _ = try tensor(proto(.dtHalf, [1]) { $0.halfVal = [-1] }, .float16([1])) }.contains("not within float16"))
    #expect(
      error { _ = try tensor(proto(.dtString, [2]) { $0.stringVal = [Data([1]), Data()] }, .uint8(["b", "n"])) }.contains(
        "all must be alike"))
    #expect(
      error { _ = try tensor(proto(.dtString, [3]) { $0.stringVal = [Data([1])] }, .uint8(["b", "n"])) }.contains(
        "it has 1 strings"))
  }

  /// Whatever the bytes are, there is an error or a request, and no trap.
  @Test func survivesChangedBytes() throws {
    var message = Tensorflow_Serving_PredictRequest()
    message.modelSpec.name = "pair"
    message.inputs["a"] = proto(.dtFloat, [2, 2]) { $0.floatVal = [1, 2, 3, 4] }
    message.inputs["b"] = proto(.dtInt64, [2]) { $0.int64Val = [1, 300] }
    message.outputFilter = ["sum"]
    let bytes: [UInt8] = try message.serializedBytes()
    var random = SplitMix(seed: 3)
    var read = 0
    for _ in 0..<3_000 {
      var changed = bytes
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        changed[Int.random(in: 0..<bytes.count, using: &random)] = UInt8(truncatingIfNeeded: random.next())
      }
      if Bool.random(using: &random) { changed.removeLast(Int.random(in: 0..<changed.count, using: &random)) }
      changed.withUnsafeBytes { part in
        do {
          _ = try PredictMessage(part, limits: ServingLimits()).request(for: FakeServable.pair, maxRequestBytes: 1 << 20)
          read += 1
        } catch {}
      }
    }
    #expect(read > 0 && read < 3_000)
  }

  @Test func checksNamesOfInputsAndOutputs() throws {
    var message = Tensorflow_Serving_PredictRequest()
    message.inputs["a"] = proto(.dtFloat, [1, 2]) { $0.floatVal = [1, 2] }
    #expect(
      error { _ = try request(message, .pair) }
        == "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}.")
    message.inputs["c"] = proto(.dtInt64, [1])
    #expect(
      error { _ = try request(message, .pair) }
        == "input tensor alias not found in signature: c. Inputs expected to be in the set {a,b}.")
    message.inputs["c"] = nil
    message.inputs["b"] = proto(.dtInt64, [2])
    #expect(error { _ = try request(message, .pair) }.contains("its dimension 0, 'batch', is"))
    message.inputs["b"] = proto(.dtInt64, [1])
    message.outputFilter = ["count"]
    message.modelSpec.signatureName = "serving_default"
    let read = try request(message, .pair)
    #expect(read.outputs == ["count"] && read.signature == "serve" && read.inputs.count == 2)
    message.outputFilter = ["count", "count"]
    #expect(error { _ = try request(message, .pair) } == "duplicate output tensor alias: count")
    message.outputFilter = ["no"]
    #expect(
      error { _ = try request(message, .pair) }.hasPrefix("output tensor alias not found in signature: no Outputs expected"))
    message.modelSpec.signatureName = "no"
    do {
      _ = try request(message, .pair)
      Issue.record("an unknown signature was taken")
    } catch { #expect(error as? ServingError == ServingError(.failedPrecondition, "Serving signature key \"no\" not found.")) }
    // The same name twice: a map has it once, the wire need not.
    var bytes: [UInt8] = try Tensorflow_Serving_PredictRequest.with { $0.inputs["x"] = proto(.dtFloat, [1]) }.serializedBytes()
    bytes += bytes
    bytes.withUnsafeBytes { part in
      #expect(
        error {
          _ = try PredictMessage(part, limits: ServingLimits()).request(for: FakeServable.halfPlusTwo, maxRequestBytes: 100)
        }.contains("given twice"))
    }
  }

  @Test func boundsTheNumberOfTensors() throws {
    var message = Tensorflow_Serving_PredictRequest()
    for i in 0..<2_000 { message.inputs["x\(i)"] = Tensorflow_TensorProto() }
    #expect(error { _ = try request(message, .pair) }.contains("more than 1024 inputs"))
    message.inputs = [:]
    message.outputFilter = Array(repeating: "y", count: 100_000)
    #expect(error { _ = try request(message, .pair) }.contains("more than 1024 outputs"))
  }

  @Test func writesAnswers() throws {
    let reply = PredictReply(
      model: "m", version: 3, signature: "serve",
      outputs: [
        ("y", Tensor([1, 2, 3, 4, 5, 6] as [Float], shape: [2, 3])), ("n", Tensor(elements: [Int64(-1)])),
        ("s", Tensor([Float(2)], shape: [])), ("e", Tensor([Float](), shape: [0, 4])),
        ("big", Tensor([UInt8](repeating: 7, count: 20_000), shape: [20_000])),
      ])
    let bytes: [UInt8] = try PredictReplySerializer().serialize(reply)
    let message = try Tensorflow_Serving_PredictResponse(serializedBytes: bytes)
    #expect(message.modelSpec.name == "m" && message.modelSpec.version.value == 3 && message.modelSpec.signatureName == "serve")
    #expect(message.outputs.count == 5)
    let y = try #require(message.outputs["y"])
    #expect(y.dtype == .dtFloat && y.tensorShape.dim.map(\.size) == [2, 3] && y.tensorContent.count == 24)
    #expect(try tensor(y, .float32([2, 3])).floats == [1, 2, 3, 4, 5, 6])
    #expect(message.outputs["n"]?.dtype == .dtInt64 && message.outputs["s"]?.tensorShape.dim == [])
    #expect(message.outputs["e"]?.tensorShape.dim.map(\.size) == [0, 4] && message.outputs["e"]?.tensorContent.isEmpty == true)
    #expect(message.outputs["big"]?.tensorContent == Data(repeating: 7, count: 20_000))
  }

  @Test func readsExamples() throws {
    func example(_ features: [String: Tensorflow_Feature]) -> Tensorflow_Example { .with { $0.features.feature = features } }
    func signature(_ spec: TensorSpec) -> Signature {
      .init(inputs: [.init(name: "x", spec: spec)], outputs: [], openDimensions: [])
    }
    func read(_ features: [Tensorflow_Feature], _ spec: TensorSpec) throws -> Tensor? {
      let input = Tensorflow_Serving_Input.with { $0.exampleList.examples = features.map { example(["x": $0]) } }
      return try input.tensors(for: signature(spec)).inputs["x"]
    }
    func ints(_ values: [Int64]) -> Tensorflow_Feature { .with { $0.int64List.value = values } }
    func floats(_ values: [Float]) -> Tensorflow_Feature { .with { $0.floatList.value = values } }
    func bytes(_ values: [[UInt8]]) -> Tensorflow_Feature { .with { $0.bytesList.value = values.map { Data($0) } } }
    #expect(try read([floats([1, 2]), floats([3, 4])], .float32(["b", 2]))?.floats == [1, 2, 3, 4])
    #expect(try read([floats([1, 2, 3, 4])], .float32(["b", 2, "n"]))?.shape == [1, 2, 2])
    #expect(try read([ints([1]), ints([2])], .float32(["b"]))?.floats == [1, 2])
    #expect(try read([ints([-128, 127])], .int8(["b", 2]))?.elements(as: Int8.self) == [-128, 127])
    #expect(try read([ints([1, 0])], .bool(["b", 2]))?.elements(as: Bool.self) == [true, false])
    #expect(try read([floats([0.5])], .float64(["b"]))?.elements(as: Double.self) == [0.5])
    #expect(try read([floats([0.5])], .float16(["b"]))?.converted(to: .float32).floats == [0.5])
    #expect(try read([bytes([[1, 2], [3]])], .uint8(["b", 3]))?.elements(as: UInt8.self) == [1, 2, 3])
    for (features, spec, expected) in [
      ([ints([128])], TensorSpec.int8(["b", 1]), "128 is not within int8"),
      ([floats([1])], .int64(["b", 1]), "has float values, but the input is int64"),
      ([bytes([[1]])], .float32(["b", 1]), "has bytes, but the input is float32"),
      ([floats([1, 2])], .float32(["b", 3]), "has 2 elements"),
      ([floats([1]), floats([])], .float32(["b", "n"]), "has 0 elements in the example 1, but 1"),
      ([], .float32(["b"]), "Input is empty."),
      ([floats([1])], .float32([]), "no dimension for examples"),
    ] as [([Tensorflow_Feature], TensorSpec, String)] {
      let found = error { _ = try read(features, spec) }
      #expect(found.contains(expected), "\(found)")
    }
  }

  @Test func readsWarmUpLogs() throws {
    func read(_ log: Tensorflow_Serving_PredictionLog, _ servable: FakeServable) throws -> InferenceRequest {
      let bytes: [UInt8] = try log.serializedBytes()
      return try bytes.withUnsafeBytes { try WarmUpLogs.request($0, for: servable) }
    }
    let predict = try read(
      .with {
        $0.logMetadata.samplingConfig.samplingRate = 1
        $0.predictLog.request.modelSpec.name = "another"
        $0.predictLog.request.inputs["x"] = proto(.dtFloat, [2]) { $0.floatVal = [1, 2] }
      }, .halfPlusTwo)
    #expect(predict.inputs["x"]?.floats == [1, 2] && predict.signature == "serve")
    let example = Tensorflow_Example.with { $0.features.feature["x"] = .with { $0.floatList.value = [1, 2, 3] } }
    let classify = try read(.with { $0.classifyLog.request.input.exampleList.examples = [example] }, .iris)
    #expect(classify.inputs["x"]?.shape == [1, 3])
    let regress = try read(.with { $0.regressLog.request.input.exampleList.examples = [example, example] }, .iris)
    #expect(regress.inputs["x"]?.shape == [2, 3])
    #expect(
      error { _ = try read(.with { $0.multiInferenceLog.request = .init() }, .iris) }.contains(
        "only predict, classify and regress"))
    #expect(error { _ = try read(.init(), .iris) }.contains("there is no request"))
    #expect(
      error { _ = try [UInt8]([0xff, 0xff]).withUnsafeBytes { try WarmUpLogs.request($0, for: FakeServable.iris) } }.contains(
        "PredictionLog"))
  }
}
