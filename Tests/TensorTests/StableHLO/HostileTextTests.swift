import ApusCPU
import Testing

@testable import ApusTensor

/// Texts that are no programs: each is an error with a place, soon and without much memory.
@Suite struct HostileTextTests {
  private static func module(_ body: String, arguments: String = "%arg0: tensor<2xf32>", result: String = "tensor<2xf32>")
    -> String
  {
    "module @m {\n  func.func public @main(\(arguments)) -> \(result) {\n\(body)\n  }\n}\n"
  }

  private static let deepCalls: String = {
    var text = "module @m {\n"
    for i in 0..<200 {
      let name = i == 0 ? "public @main" : "private @f\(i)"
      text += "func.func \(name)(%arg0: tensor<2xf32>) -> tensor<2xf32> {\n"
      text +=
        i == 199
        ? "return %arg0 : tensor<2xf32>\n}\n"
        : "%0 = call @f\(i + 1)(%arg0) : (tensor<2xf32>) -> tensor<2xf32>\nreturn %0 : tensor<2xf32>\n}\n"
    }
    return text + "}\n"
  }()

  /// Each function calls the next one twice: 2^40 operations if they were written out.
  private static let doubling: String = {
    var text = "module @m {\n"
    for i in 0..<40 {
      let name = i == 0 ? "public @main" : "private @f\(i)"
      text += "func.func \(name)(%arg0: tensor<2xf32>) -> tensor<2xf32> {\n"
      if i == 39 {
        text += "return %arg0 : tensor<2xf32>\n}\n"
      } else {
        text += "%0 = call @f\(i + 1)(%arg0) : (tensor<2xf32>) -> tensor<2xf32>\n"
        text += "%1 = call @f\(i + 1)(%0) : (tensor<2xf32>) -> tensor<2xf32>\nreturn %1 : tensor<2xf32>\n}\n"
      }
    }
    return text + "}\n"
  }()

  private static let deepRegions: String = {
    let close =
      "\nstablehlo.return %0 : tensor<2xf32> }, { stablehlo.return %arg0 : tensor<2xf32> }) : (tensor<i1>) -> tensor<2xf32>"
    return module(
      "%c = stablehlo.constant dense<true> : tensor<i1>\n" + String(repeating: "%0 = \"stablehlo.if\"(%c) ({\n", count: 5000)
        + "%0 = stablehlo.negate %arg0 : tensor<2xf32>" + String(repeating: close, count: 5000) + "\nreturn %0 : tensor<2xf32>")
  }()

  private static let texts: [(name: String, text: String, message: String)] = [
    ("nothing", "", "no public function"),
    ("no module", "hello", "expected func.func"),
    ("binary", "\u{1}\u{2}\u{3}", "expected func.func"),
    ("not ASCII", "module @é {}", "needs a name after @"),
    ("cut off in a header", "module @m { func.func public @main(%arg0: tensor<2xf32>", "without its"),
    ("cut off in a body", "module @m { func.func public @main() -> tensor<f32> { %0 = stablehlo.constant", "without its"),
    ("a body without a return", module(""), "expected an operation"),
    (
      "an unknown operation", module("%0 = stablehlo.fft %arg0 : tensor<2xf32>\nreturn %0 : tensor<2xf32>"),
      "line 3, column 6: stablehlo.fft: is no operation"
    ),
    (
      "another dialect", module("%0 = linalg.add %arg0 : tensor<2xf32>\nreturn %0 : tensor<2xf32>"),
      "is no operation that is known"
    ),
    ("an undefined value", module("%0 = stablehlo.add %arg0, %1 : tensor<2xf32>\nreturn %0 : tensor<2xf32>"), "%1 is no value"),
    (
      "a cycle",
      module(
        "%0 = stablehlo.add %arg0, %1 : tensor<2xf32>\n%1 = stablehlo.add %0, %0 : tensor<2xf32>\nreturn %1 : tensor<2xf32>"),
      "%1 is no value"
    ),
    ("a value of its own", module("%0 = stablehlo.add %0, %0 : tensor<2xf32>\nreturn %0 : tensor<2xf32>"), "%0 is no value"),
    ("one result as another", module("return %arg0#3 : tensor<2xf32>"), "%arg0#3 is no value"),
    ("a name twice", module("%arg0 = stablehlo.negate %arg0 : tensor<2xf32>\nreturn %arg0 : tensor<2xf32>"), "two values %arg0"),
    (
      "an argument twice", module("return %a : tensor<2xf32>", arguments: "%a: tensor<2xf32>, %a: tensor<2xf32>"), "two values %a"
    ),
    (
      "wrong operand types", module("%0 = stablehlo.convert %arg0 : (tensor<3xf32>) -> tensor<2xf32>\nreturn %0 : tensor<2xf32>"),
      "says its operands"
    ),
    ("a wrong result type", module("%0 = stablehlo.add %arg0, %arg0 : tensor<3xf32>\nreturn %0 : tensor<2xf32>"), "says"),
    ("a wrong return type", module("return %arg0 : tensor<3xf32>"), "returns"),
    ("another result than promised", module("return %arg0 : tensor<2xf32>", result: "tensor<4xf32>"), "returns"),
    (
      "operands that do not fit",
      module(
        "%0 = stablehlo.add %arg0, %b : (tensor<2xf32>, tensor<3xf32>) -> tensor<2xf32>\nreturn %0 : tensor<2xf32>",
        arguments: "%arg0: tensor<2xf32>, %b: tensor<3xf32>"), "shapes differ"
    ),
    ("too large a shape", module("return %a : tensor<2xf32>", arguments: "%a: tensor<99999999999999999999x2xf32>"), "too large"),
    (
      "too many elements", module("return %a : tensor<2xf32>", arguments: "%a: tensor<4294967296x4294967296xf32>"),
      "too many elements"
    ),
    ("too many dimensions", module("return %a : tensor<2xf32>", arguments: "%a: tensor<1x1x1x1x1x1x1x1x1xf32>"), "dimensions"),
    ("a negative size", module("return %a : tensor<2xf32>", arguments: "%a: tensor<-1xf32>"), "element type"),
    ("an unknown size", module("return %a : tensor<2xf32>", arguments: "%a: tensor<?xf32>"), "sizes must be known"),
    ("an unknown type", module("return %a : tensor<2xf32>", arguments: "%a: tensor<2xcomplex>"), "no element type of Apus's"),
    (
      "a type without end",
      module("return %a : tensor<2xf32>", arguments: "%a: tensor<2x" + String(repeating: "1x", count: 100_000)), "without"
    ),
    (
      "brackets without end", module("%0 = stablehlo.constant dense<" + String(repeating: "[", count: 1_000_000)),
      "more than 8 dimensions"
    ),
    ("deep attributes", "module @m attributes {a = " + String(repeating: "[", count: 1_000_000) + "} {}", "nested too deep"),
    ("deep dictionaries", "module @m attributes " + String(repeating: "{a = ", count: 300_000) + " {}", "nested too deep"),
    ("deep regions", deepRegions, "too deep"),
    ("deep calls", deepCalls, "too deep"),
    ("doubling calls", doubling, "too large"),
    (
      "a call of itself", module("%0 = call @main(%arg0) : (tensor<2xf32>) -> tensor<2xf32>\nreturn %0 : tensor<2xf32>"),
      "calls itself"
    ),
    (
      "a call of nothing", module("%0 = call @f(%arg0) : (tensor<2xf32>) -> tensor<2xf32>\nreturn %0 : tensor<2xf32>"),
      "no function @f"
    ),
    (
      "two functions of a name", "module @m { func.func private @f() { return } func.func private @f() { return } }",
      "two functions @f"
    ),
    (
      "a literal that does not fill",
      module("%0 = stablehlo.constant dense<[1.0, 2.0, 3.0]> : tensor<2xf32>\nreturn %0 : tensor<2xf32>"), "is no float32[2]"
    ),
    (
      "bytes that do not fill", module("%0 = stablehlo.constant dense<\"0x0011\"> : tensor<2xf32>\nreturn %0 : tensor<2xf32>"),
      "2 bytes"
    ),
    ("odd digits", module("%0 = stablehlo.constant dense<\"0x001\"> : tensor<2xf32>\nreturn %0 : tensor<2xf32>"), "hexadecimal"),
    (
      "rows of different length",
      module("%0 = stablehlo.constant dense<[[1.0], [1.0, 2.0]]> : tensor<2xf32>\nreturn %0 : tensor<2xf32>"), "differ in length"
    ),
    (
      "a number too large",
      module("%0 = stablehlo.constant dense<99999999999999999999> : tensor<2xi64>\nreturn %arg0 : tensor<2xf32>"), "too large"
    ),
    (
      "a number beyond its type", module("%0 = stablehlo.constant dense<300> : tensor<2xi8>\nreturn %arg0 : tensor<2xf32>"),
      "does not fit"
    ),
    ("a string without end", module("%0 = \"stablehlo.add"), "without"),
    (
      "an attribute twice",
      module(
        "%0 = \"stablehlo.iota\"() {iota_dimension = 0 : i64, iota_dimension = 0 : i64} : () -> tensor<2xf32>\nreturn %0 : tensor<2xf32>"
      ), "given twice"
    ),
    ("an axis beyond", module("%0 = stablehlo.iota dim = 7 : tensor<2xf32>\nreturn %0 : tensor<2xf32>"), "axis 7"),
    (
      "a slice beyond",
      module("%0 = stablehlo.slice %arg0 [0:9223372036854775807] : (tensor<2xf32>) -> tensor<2xf32>\nreturn %0 : tensor<2xf32>"),
      "limit_indices"
    ),
    (
      "padding beyond",
      module(
        "%c = stablehlo.constant dense<0.0> : tensor<f32>\n%0 = stablehlo.pad %arg0, %c, low = [1099511627776], high = [1099511627776], interior = [0] : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>\nreturn %0 : tensor<2xf32>"
      ), "too large"
    ),
    (
      "a composite without its attributes",
      module(
        "%0 = stablehlo.composite \"apus.layerNorm\" %arg0 {decomposition = @f} : (tensor<2xf32>) -> tensor<2xf32>\nreturn %0 : tensor<2xf32>"
      ), "epsilon"
    ),
    (
      "a composite without operands",
      module("%0 = stablehlo.composite \"apus.softmax\" {decomposition = @f} : () -> tensor<2xf32>\nreturn %0 : tensor<2xf32>"),
      "operand"
    ),
    (
      "a scan of a huge length",
      module(
        "%0 = stablehlo.composite \"apus.scanLoop\" %arg0 {composite_attributes = {body = @f, carried = 9223372036854775807 : i64, sequences = 1 : i64, length = 1 : i64, reverse = false}, decomposition = @f} : (tensor<2xf32>) -> tensor<2xf32>\nreturn %0 : tensor<2xf32>"
      ), "there is no function @f"
    ),
    (
      "a reduction of something else",
      module(
        "%c = stablehlo.constant dense<0.0> : tensor<f32>\n%0 = stablehlo.reduce(%arg0 init: %c) applies stablehlo.subtract across dimensions = [0] : (tensor<2xf32>, tensor<f32>) -> tensor<f32>\nreturn %arg0 : tensor<2xf32>"
      ), "only sums"
    ),
    (
      "a loop whose body gives another type",
      module(
        "%0 = stablehlo.while(%i = %arg0) : tensor<2xf32> cond { %c = stablehlo.constant dense<true> : tensor<i1> stablehlo.return %c : tensor<i1> } do { %c = stablehlo.constant dense<true> : tensor<i1> stablehlo.return %c : tensor<i1> }\nreturn %0 : tensor<2xf32>"
      ), "must give the states' types"
    ),
  ]

  @Test func isAnErrorWithAPlace() {
    for (name, text, message) in Self.texts {
      do {
        let graph = try Graph(stableHLO: text)
        Issue.record("\(name): read as a graph of \(graph.nodes.count) operations")
      } catch {
        #expect(error.description.contains(message), "\(name): \(error)")
        #expect(error.position.line >= 1 && error.position.column >= 1)
      }
    }
  }

  /// Every beginning of a text, and the text with each byte changed, is read or refused.
  @Test func everyTextEndsWell() throws {
    let samples = try GraphSample.programs().filter { ["scan reverse=false", "conditional true", "calls"].contains($0.name) }
    for sample in samples {
      let bytes = Array(sample.graph.stableHLO().utf8)
      for end in stride(from: 0, to: bytes.count, by: 23) {
        #expect(throws: GraphTextError.self) { try Graph(stableHLO: String(decoding: bytes[..<end], as: UTF8.self)) }
      }
      for i in stride(from: 0, to: bytes.count, by: 37) {
        for replacement in [UInt8(ascii: "9"), UInt8(ascii: "<"), UInt8(ascii: "%"), UInt8(ascii: " ")] {
          var changed = bytes
          changed[i] = replacement
          if let graph = try? Graph(stableHLO: String(decoding: changed, as: UTF8.self)) { try graph.verify() }
        }
      }
    }
  }

  /// A large constant is read in one piece.
  @Test func largeConstants() throws {
    let count = 1 << 20
    let sample = try GraphSample("large", []) { g in
      Array(try g.append(.constant(Tensor((0..<count).map { Float($0) }, shape: [count]).array.asConstant), []))
    }
    let parsed = try Graph(stableHLO: sample.graph.stableHLO())
    #expect(parsed == sample.graph)
  }
}
