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
      guard let symbolicated = backtrace?.symbolicated(options: [.showInlineFrames, .showSourceLocations]) else { return nil }
      for frame in symbolicated.frames {
        guard let source = frame.symbol?.sourceLocation, !source.path.isEmpty, source.line > 0 else { continue }
        let inApus = source.path.hasPrefix(sourcesFolder) && !source.path.hasPrefix(sourcesFolder + "CLI/")
        let inCompiler = source.path.hasPrefix("/<compiler-generated>") || source.path.contains("<compiler-generated>")
        if inApus || inCompiler { continue }
        return "\(source.path.split(separator: "/").last ?? ""):\(source.line)"
      }
    #endif
    return nil
  }
}

func callerLocation() -> String? { CallStack.capture().location }
