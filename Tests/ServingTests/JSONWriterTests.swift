import ApusFormats
import ApusServables
import ApusTensor
import Foundation
import NIOCore
import Testing

@testable import ApusServing

private func text(_ body: (inout JSONWriter) -> Void, _ layout: JSONWriter.Layout = .compact) -> String {
  var writer = JSONWriter(layout)
  body(&writer)
  return String(buffer: writer.buffer)
}

/// What TensorFlow Serving's `WriteDecimal` prints: `%.6g` if it is read as the same number, else all digits.
private func reference<T: BinaryFloatingPoint & LosslessStringConvertible>(_ value: T, _ digits: Int) -> String {
  if value.isNaN { return "NaN" }
  if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
  var text = String(format: "%.6g", Double(value))
  if T(text) != value { text = String(format: "%.\(digits)g", Double(value)) }
  return text.contains(".") || text.contains("e") ? text : text + ".0"
}

private func printed<T: PrintedFloat>(_ value: T, _ style: JSONNumberStyle) -> String {
  withUnsafeTemporaryAllocation(of: UInt8.self, capacity: DecimalDigits.maxLength) { buffer in
    let count = DecimalDigits.write(value, style, to: buffer.baseAddress!)
    precondition(count <= DecimalDigits.maxLength)
    return String(decoding: buffer[..<count], as: UTF8.self)
  }
}

@Suite struct JSONWriterTests {
  @Test(
    arguments: [
      (0, "0.0"), (-0.0, "-0.0"), (1, "1.0"), (0.5, "0.5"), (0.1, "0.1"), (2.5, "2.5"), (100_000, "100000.0"),
      (999_999, "999999.0"),
      (1_000_000, "1e+06"), (1_234_567, "1234567.0"), (9_000_000, "9e+06"), (16_777_216, "16777216.0"), (1e9, "1e+09"),
      (0.0001, "0.0001"), (0.00003, "3e-05"), (1.0 / 3, "0.333333343"), (0.2, "0.2"), (123.456, "123.456"),
      (-1.5e-7, "-1.5e-07"), (3.4028235e38, "3.40282347e+38"), (.leastNonzeroMagnitude, "1.4013e-45"),
      (1.1754944e-38, "1.17549435e-38"),
      (.nan, "NaN"), (.infinity, "Infinity"), (-.infinity, "-Infinity"),
    ] as [(Float, String)])
  func printsFloatsAsTensorFlowServing(_ value: Float, _ expected: String) { #expect(printed(value, .sixDigits) == expected) }

  @Test(
    arguments: [
      (0.1, "0.1"), (1.0 / 3, "0.33333333333333331"), (0.1234567, "0.1234567"), (1e100, "1e+100"),
      (.leastNonzeroMagnitude, "4.94066e-324"),
      (1.7976931348623157e308, "1.7976931348623157e+308"), (123_456_789, "123456789.0"), (1e17, "1e+17"),
      (9_007_199_254_740_992, "9007199254740992.0"),
    ] as [(Double, String)])
  func printsDoublesAsTensorFlowServing(_ value: Double, _ expected: String) { #expect(printed(value, .sixDigits) == expected) }

  @Test func agreesWithPrintf() {
    var random = SplitMix(seed: 7)
    var floats: [Float] = []
    var doubles: [Double] = []
    for _ in 0..<60_000 {
      floats.append(Float(bitPattern: UInt32(truncatingIfNeeded: random.next())))
      floats.append(Float.random(in: -10...10, using: &random))
      floats.append((Float.random(in: -1000...1000, using: &random) * 1000).rounded() / 1000)
      doubles.append(Double(bitPattern: random.next()))
      doubles.append(Double.random(in: -10...10, using: &random))
      doubles.append((Double.random(in: -1e6...1e6, using: &random) * 100).rounded() / 100)
    }
    for exponent in -149..<128 {
      floats += [Float(sign: .plus, exponent: exponent, significand: 1)].flatMap { [$0, $0.nextUp, $0.nextDown] }
    }
    for exponent in -1074..<1024 {
      doubles += [Double(sign: .plus, exponent: exponent, significand: 1)].flatMap { [$0, $0.nextUp, $0.nextDown] }
    }
    for exponent in -45...38 { floats.append(Float("1e\(exponent)")!) }
    for exponent in -323...308 { doubles.append(Double("1e\(exponent)")!) }
    for value in floats where printed(value, .sixDigits) != reference(value, 9) {
      Issue.record("\(value.bitPattern): \(printed(value, .sixDigits)), not \(reference(value, 9))")
    }
    for value in doubles where printed(value, .sixDigits) != reference(value, 17) {
      Issue.record("\(value.bitPattern): \(printed(value, .sixDigits)), not \(reference(value, 17))")
    }
  }

  @Test func shortestIsReadAsTheSameAndIsNoLonger() {
    var random = SplitMix(seed: 9)
    func digits(_ text: String) -> Int {
      let mantissa = text.split(separator: "e")[0].filter(\.isNumber).drop { $0 == "0" }
      return mantissa.reversed().drop { $0 == "0" }.count
    }
    for _ in 0..<60_000 {
      let float = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
      let double = Double(bitPattern: random.next())
      if float.isNormal {
        let text = printed(float, .shortest)
        #expect(Float(text) == float)
        if digits(text) != digits("\(float)") { Issue.record("\(text) for \(float)") }
      }
      if double.isNormal {
        let text = printed(double, .shortest)
        #expect(Double(text) == double)
        if digits(text) != digits("\(double)") { Issue.record("\(text) for \(double)") }
      }
    }
    #expect(printed(Float(0.1), .shortest) == "0.1")
    #expect(printed(Float(3), .shortest) == "3.0")
    #expect(printed(Float(1_234_567), .shortest) == "1234567.0")
    #expect(printed(Double(0.1) + 0.2, .shortest) == "0.30000000000000004")
  }

  @Test func printsTensorsByShape() {
    func list(_ tensor: Tensor) -> String { text { $0.elements(of: tensor, style: .sixDigits) } }
    #expect(list(Tensor([1, 2, 3, 4, 5, 6] as [Float], shape: [2, 3])) == "[[1.0,2.0,3.0],[4.0,5.0,6.0]]")
    #expect(list(Tensor([Int8(-1), 127], shape: [2, 1, 1])) == "[[[-1]],[[127]]]")
    #expect(list(Tensor(elements: [true, false])) == "[true,false]")
    #expect(list(Tensor(elements: [Int64.min, Int64.max])) == "[-9223372036854775808,9223372036854775807]")
    #expect(list(Tensor(elements: [UInt8(0), 255])) == "[0,255]")
    #expect(list(Tensor(elements: [Int16(-300)])) == "[-300]" && list(Tensor(elements: [Int32.min])) == "[-2147483648]")
    #expect(list(Tensor([Float](), shape: [0])) == "[]" && list(Tensor([Float](), shape: [2, 0])) == "[[],[]]")
    #expect(list(Tensor([Float](), shape: [0, 2])) == "[]")
    #expect(list(Tensor([Float(2.5)], shape: [])) == "2.5")
    #expect(list(Tensor(elements: [Float(0.5), 65504]).converted(to: .float16)) == "[0.5,65504.0]")
    #expect(list(Tensor(elements: [Float(0.5), 3]).converted(to: .bfloat16)) == "[0.5,3.0]")
    #expect(
      list(Tensor(elements: [Float(-0.1), 0, -.infinity, 5.96e-8]).converted(to: .float16))
        == "[-0.0999756,0.0,-Infinity,5.96046e-08]")
    let many = (0..<1_000).map(Int32.init)
    #expect(list(Tensor(elements: many)) == "[" + many.map(String.init).joined(separator: ",") + "]")
    #expect(
      text { $0.flatElements(of: Tensor([1, 2, 3, 4] as [Float], shape: [2, 2]), style: .shortest) } == "[1.0,2.0,3.0,4.0]")
  }

  @Test func printsObjects() {
    let body: (inout JSONWriter) -> Void = { json in
      json.beginObject()
      json.key("a\n\"\\\u{1}\u{1f}é")
      json.string("x/y\t")
      json.key("b")
      json.beginArray()
      json.integer(.min)
      json.bool(true)
      json.null()
      json.number(1.5)
      json.beginObject()
      json.endObject()
      json.endArray()
      json.key("c")
      json.value(.object(["k": .array([.integer(1), .string("v")])]))
      json.key("d")
      json.elements(of: Tensor([1, 2, 3, 4] as [Float], shape: [2, 2]), style: .shortest)
      json.endObject()
    }
    #expect(
      text(body)
        == #"{"a\n\"\\\u0001\u001fé":"x/y\t","b":[-9223372036854775808,true,null,1.5,{}],"c":{"k":[1,"v"]},"d":[[1.0,2.0],[3.0,4.0]]}"#
    )
    // The indented text says the same to another reader.
    let compact = try? JSONSerialization.jsonObject(with: Data(text(body).utf8)) as? NSDictionary
    let indented = try? JSONSerialization.jsonObject(with: Data(text(body, .indented).utf8)) as? NSDictionary
    #expect(compact != nil && compact == indented)
    #expect(text(body, .indented).contains("\n    \"b\": [\n        -9223372036854775808,\n        true,"))
  }

  @Test func printsBytes() {
    #expect(text { json in Array("hello".utf8).withUnsafeBytes { json.base64($0) } } == #"{"b64":"aGVsbG8="}"#)
  }
}
