import ApusCPU
import Testing

@testable import ApusTensor

/// The same values, laid out in memory in other ways.
enum Layout: String, Sendable, CaseIterable, CustomTestStringConvertible {
  /// Dimensions in reverse order in memory.
  case transposed
  /// Batch first, then the spatial dimensions, then the channels.
  case channelsLast
  /// Every second element along each dimension of a larger block, not at its start.
  case strided
  /// Negative strides along each dimension.
  case reversed
  /// Rows longer than the tensor's, as a slice of a wider one.
  case rows

  var testDescription: String { rawValue }

  /// `x` in this layout; other tensors share its storage's values but never its storage.
  func view(_ x: Tensor) -> Tensor {
    let n = x.rank
    switch self {
    case .transposed:
      let order = Axes((0..<n).reversed())
      let copy = CPUArray(view: x.array, shape: x.shape, strides: x.array.strides)
      return Tensor(array: CPU.transpose(CPU.transpose(copy, order).copy(), order))
    case .channelsLast:
      guard n >= 2 else { return x }
      let order = Axes([0] + Array(2..<n) + [1])
      var inverse = order
      for (i, axis) in order.enumerated() { inverse[axis] = i }
      return Tensor(array: CPU.transpose(CPU.transpose(x.array, order).copy(), inverse))
    case .strided:
      let big = Tensor.full(Shape(x.shape.map { 2 * $0 + 3 }), 7, .int64).converted(to: x.elementType).contiguous()
      let part = CPU.slice(
        big.array, Shape(repeating: 1, count: n), x.shape, Shape(repeating: 2, count: n))
      part.assign(x.array)
      return Tensor(array: part)
    case .reversed:
      let copy = x.array.copy()
      var strides = copy.strides
      var offset = 0
      for i in 0..<n {
        offset += Swift.max(x.shape[i] - 1, 0) * strides[i]
        strides[i] = -strides[i]
      }
      let view = CPUArray(view: copy, byteOffset: offset * x.elementType.byteSize, shape: x.shape, strides: strides)
      view.assign(x.array)
      return Tensor(array: view)
    case .rows:
      guard n >= 1 else { return x }
      var wide = x.shape
      wide[n - 1] += 5
      var start = Shape(repeating: 0, count: n)
      start[n - 1] = 2
      let big = Tensor.full(wide, 7, .int64).converted(to: x.elementType).contiguous()
      let part = CPU.slice(big.array, start, x.shape, Shape(repeating: 1, count: n))
      part.assign(x.array)
      return Tensor(array: part)
    }
  }
}

@Suite struct LayoutTests {
  /// The types that have kernels of their own behind one shape rule.
  private func types(_ sample: Sample) -> [ElementType] {
    [.float32, .float64, .bfloat16, .int32, .uint8, .bool].filter(sample.types.contains)
  }

  private func expectSame(_ results: [Tensor], _ expected: [Tensor], _ sample: Sample, _ what: @autoclosure () -> String) {
    for (i, (result, reference)) in zip(results, expected).enumerated() {
      if sample.dependsOnLayout {
        let problem = Reference(reference).mismatch(result, ulps: sample.ulps, magnitude: sample.magnitude)
        if let problem { Issue.record("\(sample) \(what()), result \(i): \(problem)") }
      } else {
        // Many thousands of comparisons: only failures cost an #expect.
        if bits(result) != bits(reference) {
          Issue.record("\(sample) \(what()), result \(i): \(result.elements(as: Double.self))")
        }
      }
    }
  }

  @Test(arguments: Family.allCases) func layoutsGiveTheSameValuesAndInputsStay(_ family: Family) throws {
    for sample in family.samples where !sample.inputs.isEmpty {
      for type in types(sample) {
        let plain = sample.tensors(type)
        let expected = try run(sample.operation, plain)
        let before = plain.map(bits)
        for layout in Layout.allCases {
          for which in plain.count == 1 ? [[0]] : plain.indices.map({ [$0] }) + [Array(plain.indices)] {
            var inputs = plain
            for i in which { inputs[i] = layout.view(plain[i]) }
            let results = try run(sample.operation, inputs)
            expectSame(results, expected, sample, "in \(type) with operands \(which) \(layout)")
            if inputs.map(bits) != before { Issue.record("\(sample) in \(type) changed an operand, \(layout)") }
          }
        }
      }
    }
  }

  /// Each data operand, along each dimension, repeats its first element by a stride of zero.
  @Test(arguments: Family.allCases) func broadcastOperandsGiveTheValuesOfTheirCopies(_ family: Family) throws {
    for sample in family.samples where sample.hasData && !sample.hasSpecials {
      for type in types(sample) {
        let plain = sample.tensors(type)
        for i in plain.indices where sample.inputs[i].role != .fixed(.int64) {
          for axis in plain[i].shape.indices where plain[i].shape[axis] > 1 {
            let view = plain[i].sliced(axis: axis, start: 0, count: 1).broadcast(to: plain[i].shape)
            #expect(view.array.strides[axis] == 0)
            var (inputs, copies) = (plain, plain)
            inputs[i] = view
            copies[i] = view.contiguous()
            let before = bits(view)
            let results = try run(sample.operation, inputs)
            expectSame(results, try run(sample.operation, copies), sample, "in \(type) with operand \(i) broadcast along \(axis)")
            #expect(bits(view) == before)
          }
        }
      }
    }
  }

  /// A result may take the memory of an operand only where nobody else sees it.
  @Test func donatedMemoryIsNeverSeenByOthers() throws {
    for sample in Family.unary.samples + Family.binary.samples {
      for type in types(sample) {
        let plain = sample.tensors(type)
        let expected = try run(sample.operation, plain)[0]
        func check(_ result: Tensor, _ what: @autoclosure () -> String) {
          if bits(result) != bits(expected) { Issue.record("\(sample) in \(type), \(what())") }
        }
        for layout in [nil] + Layout.allCases.map(Optional.some) {
          func fresh(_ i: Int) -> Tensor {
            let x = Tensor(array: plain[i].array.copy())
            return layout?.view(x) ?? x
          }
          switch sample.operation {
          case .unary(let kind):
            check(apply(unary: kind, fresh(0)), "donated, \(layout as Any)")
            let kept = fresh(0)
            let another = Tensor(array: kept.array)  // the same storage through another handle
            check(apply(unary: kind, kept), "kept")
            check(apply(unary: kind, Tensor(array: another.array)), "storage shared")
            #expect(bits(kept) == bits(plain[0]) && bits(another) == bits(plain[0]), "\(sample) in \(type) wrote over an operand")
          case .binary(let kind):
            check(apply(binary: kind, fresh(0), fresh(1)), "both donated, \(layout as Any)")
            let (a, b) = (fresh(0), fresh(1))
            check(apply(binary: kind, a, fresh(1)), "right donated, \(layout as Any)")
            check(apply(binary: kind, fresh(0), b), "left donated, \(layout as Any)")
            check(apply(binary: kind, plain[0], fresh(1)), "right donated beside row-major")
            check(apply(binary: kind, fresh(0), plain[1]), "left donated beside row-major")
            check(apply(binary: kind, a, b), "kept")
            #expect(bits(a) == bits(plain[0]) && bits(b) == bits(plain[1]), "\(sample) in \(type) wrote over an operand")
          default: Issue.record("not elementwise: \(sample)")
          }
        }
      }
    }
  }

  @Test func oneTensorAsBothOperands() throws {
    for kind in BinaryKind.allCases {
      let x = Input([3, 5], .positive).tensor(kind == .and || kind == .or || kind == .xor ? .int32 : .float32)
      guard (try? Operation.binary(kind).infer([x.type, x.type])) != nil else { continue }
      let expected = try run(.binary(kind), [x, Tensor(array: x.array.copy())])[0]
      let before = bits(x)
      #expect(bits(apply(binary: kind, x, x)) == bits(expected), "\(kind)")
      #expect(bits(x) == before)
    }
  }
}
