/// What a request asks for. Values are limited here, so that no answer is larger than a page needs.
struct BoardQuery: Sendable {
  private let values: [String: String]

  init(_ values: [String: String]) { self.values = values }

  /// What is wrong with a request: a sentence for whoever wrote it.
  struct Mistake: Error {
    var isMissing = false
    var message: String
  }

  func text(_ name: String) throws(Mistake) -> String {
    guard let value = values[name] else { throw Mistake(message: "the parameter '\(name)' is needed") }
    return value
  }

  func integer(_ name: String, _ range: ClosedRange<Int>, default usual: Int) throws(Mistake) -> Int {
    guard let value = values[name] else { return usual }
    guard let number = Int(value), range.contains(number) else {
      throw Mistake(message: "'\(name)' must be an integer in \(range), not '\(value.prefix(40))'")
    }
    return number
  }

  func number(_ name: String, _ range: Range<Double>, default usual: Double) throws(Mistake) -> Double {
    guard let value = values[name] else { return usual }
    guard let number = Double(value), range.contains(number) else {
      throw Mistake(
        message: "'\(name)' must be a number from \(range.lowerBound) to below \(range.upperBound), not '\(value.prefix(40))'")
    }
    return number
  }

  /// Numbers of runs, separated by commas; nil for all.
  func runs() throws(Mistake) -> Set<Int>? {
    guard let value = values["runs"] else { return nil }
    var result: Set<Int> = []
    for part in value.split(separator: ",") {
      guard let number = Int(part) else { throw Mistake(message: "'runs' must be numbers of runs separated by commas") }
      result.insert(number)
    }
    return result
  }
}
