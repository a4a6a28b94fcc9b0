/// Where something stands in a text, from 1.
public struct TextPosition: Sendable, Hashable {
  public var line, column: Int
  public init(line: Int, column: Int) {
    self.line = line
    self.column = column
  }
}

/// Why a text is no graph, and where.
public struct GraphTextError: Error, Sendable, Hashable, CustomStringConvertible {
  public var position: TextPosition
  public var message: String

  public init(_ position: TextPosition, _ message: String) {
    self.position = position
    self.message = message
  }

  public var description: String { "line \(position.line), column \(position.column): \(message)" }
}

/// What is read at most: a text may come from anywhere.
enum TextLimits {
  /// Elements of a tensor and sizes of dimensions: sums of a few and products with a step fit in 64 bits.
  static let size = 1 << 40
  /// Strides, dilations and paddings of windows.
  static let step = 1 << 20
  /// Attributes inside of one another.
  static let depth = 64
  /// Regions inside of one another and functions that call one another.
  static let nesting = 40
  /// Operations of a program with every call written out.
  static let operations = 1_000_000
  /// Operands or results of one operation.
  static let operands = 65_536
}
