import ApusCPU
import Foundation
import Testing

@testable import ApusTensor

/// What a result must be: float64 numbers or integers, in row-major order.
struct Reference: Sendable {
  enum Values: Sendable {
    case real([Double])
    case integer([Int64])
  }

  var shape: Shape
  var values: Values

  /// Of a result that was computed here.
  init(_ tensor: Tensor) {
    shape = tensor.shape
    values =
      tensor.elementType.isFloatingPoint ? .real(tensor.elements(as: Double.self)) : .integer(tensor.elements(as: Int64.self))
  }

  /// `real 2,3 <16 hexadecimal digits each>` or `integer 2,3 1,2,3,4,5,6`.
  init?(_ text: Substring) {
    let parts = text.split(separator: " ", omittingEmptySubsequences: false)
    guard parts.count == 3 else { return nil }
    shape = parts[1] == "_" ? [] : Shape(parts[1].split(separator: ",").compactMap { Int($0) })
    if parts[0] == "real" {
      let digits = Array(parts[2].utf8)
      values = .real(
        stride(from: 0, to: digits.count, by: 16).map { start in
          Double(bitPattern: UInt64(String(decoding: digits[start..<(start + 16)], as: UTF8.self), radix: 16)!)
        })
    } else {
      values = .integer(parts[2].split(separator: ",").map { Int64($0)! })
    }
  }

  /// Fixtures/operations.txt: for each sample and type group a line of its text, a tab, and its results.
  static let fixture: [Substring: [Reference]] = {
    let url = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Fixtures/operations.txt")
    guard let text = try? String(contentsOf: url, encoding: .utf8) else { return [:] }
    var table: [Substring: [Reference]] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: "\t")
      table[parts[0]] = parts.dropFirst().compactMap { Reference($0) }
    }
    return table
  }()

  /// Why `tensor` is not this, or nil.
  ///
  /// Integers must agree exactly, modulo their type's range. Floating point numbers may differ by `ulps` units
  /// in the last place of their type, of the number plus `magnitude`; NaNs and infinities must agree.
  func mismatch(_ tensor: Tensor, ulps: Double, magnitude: Double) -> String? {
    guard tensor.shape == shape else { return "shape \(tensor.shape), expected \(shape)" }
    switch values {
    case .integer(let expected):
      guard !tensor.elementType.isFloatingPoint else { return "\(tensor.elementType), expected integers" }
      let wrapped = Tensor(expected, shape: shape).converted(to: tensor.elementType).elements(as: Int64.self)
      let got = tensor.elements(as: Int64.self)
      guard let i = got.indices.first(where: { got[$0] != wrapped[$0] }) else { return nil }
      return "element \(i) is \(got[i]), expected \(wrapped[i])"
    case .real(let expected):
      guard tensor.elementType.isFloatingPoint else { return "\(tensor.elementType), expected floating point" }
      let format = FloatingFormat(tensor.elementType)
      let got = tensor.elements(as: Double.self)
      for (i, (g, e)) in zip(got, expected).enumerated() {
        if g.isNaN && e.isNaN || g == e { continue }
        // What is too large for the type must have become infinite, but may not quite.
        if abs(e) >= format.largest && abs(g) >= format.largest && (g < 0) == (e < 0) { continue }
        let allowed = ulps * (format.epsilon * (abs(e) + magnitude) + format.smallest)
        if abs(g - e) <= allowed && e.isFinite { continue }
        return "element \(i) is \(g), expected \(e); allowed \(allowed)"
      }
      return nil
    }
  }
}

/// What matters of a floating point format: 2^(1 − precision), the largest and the smallest positive number.
struct FloatingFormat {
  var epsilon, largest, smallest: Double

  init(_ type: ElementType) {
    switch type {
    case .float16: (epsilon, largest, smallest) = (0x1p-10, 65504, 0x1p-24)
    case .bfloat16: (epsilon, largest, smallest) = (0x1p-7, 0x1.FEp127, 0x1p-133)
    case .float32: (epsilon, largest, smallest) = (0x1p-23, Double(Float.greatestFiniteMagnitude), 0x1p-149)
    default: (epsilon, largest, smallest) = (0x1p-52, .greatestFiniteMagnitude, 0x1p-1074)
    }
  }
}

/// Runs one operation on the CPU engine as `apply` does, with no tape and no memory handed over.
func run(_ operation: Operation, _ inputs: [Tensor]) throws -> [Tensor] {
  let types = try operation.infer(inputs.map(\.type))
  return try CPU.execute(operation, inputs.map(\.array), types).map { Tensor(array: $0) }
}

/// The bytes of a tensor's elements in row-major order: equal bytes are equal bits.
func bits(_ x: Tensor) -> [UInt8] { x.withUnsafeBytes { Array($0) } }
