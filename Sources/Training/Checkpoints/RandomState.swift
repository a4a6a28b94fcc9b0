import ApusNN
import ApusTensor

/// The generators that training draws from: the default one, and those in properties of modules.
struct RandomState {
  private let generators: [(name: String, generator: Generator)]

  init(_ model: Module) {
    var found: [(name: String, generator: Generator)] = [("default", .default)]
    for (path, module) in model.namedModules {
      var mirror: Mirror? = Mirror(reflecting: module)
      while let present = mirror, present.subjectType != Module.self {
        for child in present.children {
          guard let generator = child.value as? Generator, !found.contains(where: { $0.generator === generator }) else {
            continue
          }
          found.append(("\(path).\(child.label ?? "")", generator))
        }
        mirror = present.superclassMirror
      }
    }
    generators = found
  }

  /// Key and counter of each, int64 [2].
  var tensors: [String: Tensor] {
    Dictionary(
      generators.map { name, generator in
        let state = generator.state
        return (name, Tensor([Int64(bitPattern: state.key), Int64(bitPattern: state.counter)], shape: [2]))
      }
    ) { first, _ in first }
  }

  func restore(_ tensors: [String: Tensor]) {
    for (name, generator) in generators {
      guard let words = tensors[name]?.elements(as: Int64.self), words.count == 2 else { continue }
      generator.state = .init(key: UInt64(bitPattern: words[0]), counter: UInt64(bitPattern: words[1]))
    }
  }
}
