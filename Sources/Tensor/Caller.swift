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
  let line = "Apus: \(message)\(location)\n"
  _ = line.withCString { write(2, $0, strlen($0)) }
  abort()
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
  /// Whether a mangled name is that of a function of these modules. Names with an E may be other people's extensions of
  /// Apus's types: they are left to the lookup of lines.
  private func isOfApus(_ name: String) -> Bool {
    let modules = ["$s6ApusIR", "$s7ApusCPU", "$s10ApusTensor", "$s11ApusFormats", "$s6ApusNN", "$s8ApusData"]
    return modules.contains { name.hasPrefix($0) } && !name.utf8.contains(UInt8(ascii: "E"))
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
