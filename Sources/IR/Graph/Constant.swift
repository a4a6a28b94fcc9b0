/// Numbers that are part of a program: row-major memory that never changes, and the type to read it as.
///
/// Two constants are equal if their types and bytes are.
public struct Constant: Sendable, Hashable {
  public let type: TensorType
  /// Keeps the memory alive; engines look for their own kind of storage here.
  public let owner: any Sendable & AnyObject
  private let address: UInt

  /// - Parameters:
  ///   - address: `type.shape.elementCount` elements in row-major order, readable for as long as `owner` lives.
  public init(_ type: TensorType, address: UnsafeRawPointer, owner: any Sendable & AnyObject) {
    self.type = type
    self.owner = owner
    self.address = UInt(bitPattern: address)
  }

  /// A copy of these bytes.
  public init(_ type: TensorType, bytes: UnsafeRawBufferPointer) {
    precondition(bytes.count == type.shape.elementCount * type.elementType.byteSize, "bytes do not fill \(type)")
    let memory = ConstantMemory(bytes)
    self.init(type, address: memory.pointer, owner: memory)
  }

  public var byteCount: Int { type.shape.elementCount * type.elementType.byteSize }

  /// Calls `body` with the elements' bytes.
  public func withUnsafeBytes<R, E>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    defer { withExtendedLifetime(owner) {} }
    return try body(UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: byteCount))
  }

  public static func == (a: Constant, b: Constant) -> Bool {
    if a.type != b.type { return false }
    if a.address == b.address { return true }
    return a.withUnsafeBytes { x in b.withUnsafeBytes { y in x.elementsEqual(y) } }
  }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(type)
    withUnsafeBytes { hasher.combine(bytes: UnsafeRawBufferPointer(rebasing: $0.prefix(64))) }
  }
}

private final class ConstantMemory: Sendable {
  private let base: UInt
  var pointer: UnsafeRawPointer { UnsafeRawPointer(bitPattern: base).unsafelyUnwrapped }

  init(_ bytes: UnsafeRawBufferPointer) {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(bytes.count, 1), alignment: 64)
    memory.copyMemory(from: bytes)
    base = UInt(bitPattern: memory.baseAddress.unsafelyUnwrapped)
  }

  deinit { UnsafeMutableRawPointer(bitPattern: base)?.deallocate() }
}
