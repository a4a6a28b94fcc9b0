import CApusKernels

#if canImport(Runtime)
  import Runtime
#endif

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Stops the program over a caller's mistake, naming the caller's line.
///
/// The line is looked up only here: the first frame of the call stack outside of Apus's own sources.
/// So no function carries file and line along, and operators can name their caller too.
@usableFromInline package func stop(_ message: String) -> Never {
  let location = callerLocation().map { " (at \($0))" } ?? ""
  // Layers that look at their input themselves say who they are.
  let prefix = RunningCall.label.map { message.contains($0) ? "" : $0 + ": " } ?? ""
  let line = "Apus: \(prefix)\(message)\(location)\n"
  _ = line.withCString { write(2, $0, strlen($0)) }
  abort()
}

/// What messages name beside the tensor function: a layer while it is called.
package protocol NamedInMessages: AnyObject {
  var label: String { get }
}

/// The innermost call that is running on this thread.
package enum RunningCall {
  /// - Returns: what ``leave(_:)`` takes.
  package static func enter(_ object: AnyObject) -> UnsafeMutableRawPointer? {
    let state = apus_thread()!
    let outer = state.pointee.running
    state.pointee.running = Unmanaged.passUnretained(object).toOpaque()
    return outer
  }

  package static func leave(_ outer: UnsafeMutableRawPointer?) { apus_thread().pointee.running = outer }

  fileprivate static var label: String? {
    guard let pointer = apus_thread().pointee.running else { return nil }
    return (Unmanaged<AnyObject>.fromOpaque(pointer).takeUnretainedValue() as? any NamedInMessages)?.label
  }
}

/// The folder that holds Apus's modules, as the compiler saw it.
private let sourcesFolder: String = {
  var parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
  parts.removeLast(2)
  return parts.joined(separator: "/") + "/"
}()

/// A place in the call stack that can be looked up later.
struct CallStack: @unchecked Sendable {
  #if canImport(Runtime)
    let backtrace: Backtrace?
  #endif

  /// The calls that led here.
  static func capture() -> CallStack {
    #if canImport(Runtime)
      return CallStack(backtrace: try? Backtrace.capture(limit: 64))
    #else
      return CallStack()
    #endif
  }

  /// `file.swift:line` of the innermost call outside of Apus, where debug information tells.
  var location: String? {
    #if canImport(Runtime)
      return backtrace?.callerLocation(inlined: true)
    #else
      return nil
    #endif
  }
}

/// `file.swift:line` of the innermost call outside of Apus.
///
/// A line costs about 30 ms to look up in a debug build of some 30 MB, and inlined calls 180 ms the first time, where the
/// names of all functions take 1: so the frames that are Apus's by name are skipped, and the others looked up one by one.
@inline(never) func callerLocation() -> String? {
  #if canImport(Runtime)
    guard let names = (try? Backtrace.capture(limit: 64, top: 0))?.symbolicated(options: [])?.frames else { return nil }
    for (i, frame) in names.enumerated() {
      let name = frame.symbol?.rawName ?? ""
      if isOfApus(name) { continue }
      // A limit of one would leave only the mark that says that there are more.
      guard let alone = try? Backtrace.capture(limit: 2, offset: i, top: 0) else { return nil }
      if let location = alone.callerLocation(inlined: false) ?? alone.callerLocation(inlined: true) { return location }
    }
  #endif
  return nil
}

#if canImport(Runtime)
  /// Whether a mangled name is that of a function of these modules, and not somebody's extension of a type of theirs.
  private func isOfApus(_ name: String) -> Bool {
    let modules = ["$s6ApusIR", "$s7ApusCPU", "$s10ApusTensor", "$s11ApusFormats", "$s6ApusNN", "$s8ApusData"]
    return modules.contains { name.hasPrefix($0) } && !mentionsExtension(name)
  }

  /// Whether a mangled name has the operator E outside of its identifiers (docs/ABI/Mangling.rst of Swift).
  private func mentionsExtension(_ name: String) -> Bool {
    var rest = Substring(name).utf8.dropFirst(2)
    func isLetter(_ c: UInt8) -> Bool { c | 0x20 >= UInt8(ascii: "a") && c | 0x20 <= UInt8(ascii: "z") }
    func isDigit(_ c: UInt8) -> Bool { c >= UInt8(ascii: "0") && c <= UInt8(ascii: "9") }
    func number() -> Int {
      let digits = rest.prefix(while: isDigit)
      rest = rest.dropFirst(digits.count)
      return digits.reduce(0) { min($0 * 10 + Int($1 - UInt8(ascii: "0")), 1 << 20) }
    }
    while let c = rest.first {
      if c == UInt8(ascii: "E") { return true }
      if isDigit(c) {  // an identifier; after a 0 it begins with words that occurred before, the last one in upper case
        var words = c == UInt8(ascii: "0")
        if words { rest = rest.dropFirst() }
        repeat {
          while words, let word = rest.first, isLetter(word) {
            words = word & 0x20 != 0
            rest = rest.dropFirst()
          }
          guard let next = rest.first, isDigit(next) else { return true }  // not understood: looked up
          let count = number()
          rest = rest.dropFirst(count)
        } while words
      } else {
        rest = rest.dropFirst()
        guard c == UInt8(ascii: "A") else { continue }
        // Substitutions: letters with repeat counts, the last in upper case or an underscore.
        while let next = rest.first, isDigit(next) || isLetter(next) {
          rest = rest.dropFirst()
          if isLetter(next) && next & 0x20 == 0 { break }
        }
      }
    }
    return false
  }

  extension Backtrace {
    /// The first of these calls whose line lies outside of Apus. Without `inlined`, a function that Apus's code was inlined
    /// into counts as Apus's.
    fileprivate func callerLocation(inlined: Bool) -> String? {
      let options: SymbolicationOptions = inlined ? [.showInlineFrames, .showSourceLocations] : .showSourceLocations
      for frame in symbolicated(options: options)?.frames ?? [] {
        guard let source = frame.symbol?.sourceLocation, !source.path.isEmpty, source.line > 0 else { continue }
        let inApus = source.path.hasPrefix(sourcesFolder) && !source.path.hasPrefix(sourcesFolder + "CLI/")
        if inApus || source.path.contains("<compiler-generated>") { continue }
        return "\(source.path.split(separator: "/").last ?? ""):\(source.line)"
      }
      return nil
    }
  }
#endif
