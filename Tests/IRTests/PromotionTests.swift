import Testing

@testable import ApusIR

@Suite struct PromotionTests {
  /// PyTorch's table (torch.promote_types), rows and columns in this order.
  private static let order: [ElementType] = [
    .bool, .uint8, .int8, .int16, .int32, .int64, .float16, .bfloat16, .float32, .float64,
  ]
  private static let table: [[ElementType]] = [
    [.bool, .uint8, .int8, .int16, .int32, .int64, .float16, .bfloat16, .float32, .float64],
    [.uint8, .uint8, .int16, .int16, .int32, .int64, .float16, .bfloat16, .float32, .float64],
    [.int8, .int16, .int8, .int16, .int32, .int64, .float16, .bfloat16, .float32, .float64],
    [.int16, .int16, .int16, .int16, .int32, .int64, .float16, .bfloat16, .float32, .float64],
    [.int32, .int32, .int32, .int32, .int32, .int64, .float16, .bfloat16, .float32, .float64],
    [.int64, .int64, .int64, .int64, .int64, .int64, .float16, .bfloat16, .float32, .float64],
    [.float16, .float16, .float16, .float16, .float16, .float16, .float16, .float32, .float32, .float64],
    [.bfloat16, .bfloat16, .bfloat16, .bfloat16, .bfloat16, .bfloat16, .float32, .bfloat16, .float32, .float64],
    [.float32, .float32, .float32, .float32, .float32, .float32, .float32, .float32, .float32, .float64],
    [.float64, .float64, .float64, .float64, .float64, .float64, .float64, .float64, .float64, .float64],
  ]

  @Test func promotionIsPyTorchs() {
    for (i, a) in Self.order.enumerated() {
      for (j, b) in Self.order.enumerated() { #expect(ElementType.promote(a, b) == Self.table[i][j], "\(a) with \(b)") }
    }
  }

  @Test func numbersAreWeakerThanTensors() {
    for type in ElementType.allCases {
      #expect(type.promoted(withScalarOfKind: .bool) == type)
      #expect(type.promoted(withScalarOfKind: .integer) == (type == .bool ? .int64 : type))
      #expect(type.promoted(withScalarOfKind: .floatingPoint) == (type.isFloatingPoint ? type : .float32))
    }
  }

  @Test func typesKnowThemselves() {
    let sizes: [ElementType: Int] = [
      .bool: 1, .uint8: 1, .int8: 1, .int16: 2, .int32: 4, .int64: 8, .float16: 2, .bfloat16: 2, .float32: 4, .float64: 8,
    ]
    #expect(ElementType.allCases.count == sizes.count)
    for (type, size) in sizes {
      #expect(type.byteSize == size)
      #expect(type.isFloatingPoint == type.name.contains("float"))
      #expect(type.isInteger == type.name.contains("int"))
      #expect(type.isSigned == !(type == .bool || type == .uint8))
      #expect("\(type)" == type.name)
    }
  }
}
