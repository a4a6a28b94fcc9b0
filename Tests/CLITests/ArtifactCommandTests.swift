import Apus
import Foundation
import Testing

/// `apus export`, `run`, `inspect` and `bench` on artifacts, as a user would.
@Suite struct ArtifactCommandTests {
  private func run(_ arguments: String...) throws -> CommandTests.Output { try CommandTests.run(arguments) }

  private func withFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-cli-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder.path)
  }

  @Test func exportRunInspect() throws {
    try withFolder { folder in
      let path = folder + "/lenet.apus"
      let exported = try run("export", "lenet", "--to", path, "--seed", "3")
      #expect(
        exported.status == 0 && exported.out.contains("serve(image: float32[batch, 1, 28, 28]) → (logits: float32[batch, 10])"))

      let images = Tensor.randn([3, 1, 28, 28], generator: Generator(seed: 1))
      let expected = try load(path).run(["image": images])["logits"]!
      try NPY.write(images, to: folder + "/x.npy")
      try NPZFile.write(["image": images], to: folder + "/x.npz")
      for input in ["image=\(folder)/x.npy", "\(folder)/x.npy", "\(folder)/x.npz", "image=\(folder)/x.npz"] {
        let ran = try run("run", path, "--input", input, "--output", folder + "/y.npz")
        #expect(ran.status == 0 && ran.out.contains("logits: float32[3, 10]"), "\(input): \(ran.err)")
        let logits = try NPZFile(path: folder + "/y.npz").tensor("logits")
        #expect(logits.floats == expected.floats)
      }
      #expect(try run("run", path, "--input", "image=\(folder)/x.npy", "--output", folder + "/y.npy").status == 0)
      #expect(try NPY.read(folder + "/y.npy").floats == expected.floats)
      #expect(try run("run", path, "--input", folder + "/x.npy").out.hasPrefix("logits =\nTensor("))

      let shown = try run("inspect", path).out
      for part in ["serve(image", "batch: from 1", "2 convolution", "61,706 elements", "0.weight"] {
        #expect(shown.contains(part))
      }
      #expect(try run("inspect", path, "--graph").out.hasPrefix("module @program {"))
      #expect(try run("inspect", path, "--picture", folder + "/p.svg", "--size", "batch=4").out.contains("memory: temporaries"))
      #expect(try String(contentsOfFile: folder + "/p.svg", encoding: .utf8).hasPrefix("<svg"))
      #expect(try run("inspect", path, "--picture", folder + "/p.dot").status == 0)
      #expect(try String(contentsOfFile: folder + "/p.dot", encoding: .utf8).hasPrefix("digraph"))
      #expect(try run("inspect", folder + "/y.npz").out.contains("logits  float32[3, 10]  120 B"))
      #expect(try run("inspect", folder + "/x.npy").out.contains("float32[3, 1, 28, 28]"))
      let bench = try run("bench", path, "--input-size", "batch=2", "--json", "--budget", "0.05")
      #expect(bench.status == 0 && bench.out.contains("serve batch=2"))
    }
  }

  @Test func mistakesAreNamed() throws {
    try withFolder { folder in
      let path = folder + "/lenet.apus"
      #expect(try run("export", "lenett", "--to", path).err.contains("Did you mean 'lenet'?"))
      #expect(try run("export", "lenet", "--to", path, "--weights", folder + "/no.safetensors").status == 1)
      #expect(!FileManager.default.fileExists(atPath: path))
      #expect(try run("export", "lenet", "--to", path).status == 0)
      try NPY.write(Tensor.ones([1, 1, 28, 28], .float64), to: folder + "/x.npy")
      let input = "image=\(folder)/x.npy"
      let cases: [([String], String)] = [
        (["run", path, "--input", "imge=\(folder)/x.npy"], "did you mean 'image'?"),
        (["run", path], "the input 'image', float32[batch, 1, 28, 28], is missing"),
        (["run", path, "--input", input], "--convert converts it to float32"),
        (["run", path, "--input", input, "--input", input], "given twice"),
        (["run", path, "--input", input, "--signature", "serv"], "did you mean 'serve'?"),
        (["run", path, "--input", input, "--output", "y.txt"], ".npz"),
        (["run", path, "--input", "image=\(folder)/no.npy"], "no.npy"), (["run", folder + "/no.apus"], "no.apus"),
        (["bench", path, "--input-size", "bach=2"], "Did you mean 'batch'?"),
        (["bench", path, "--input-size", "batch=x"], "as in batch=8"),
        (["bench", path, "--input-size", "batch=0"], "batch is 0"),
        (["inspect", path, "--picture", "p.png"], ".svg"), (["inspect", folder + "/x.npy", "--graph"], "artifacts"),
      ]
      for (arguments, text) in cases {
        let output = try CommandTests.run(arguments)
        #expect(output.status != 0 && output.err.contains(text), "\(arguments): \(output.err)")
      }
      #expect(try run("run", path, "--input", input, "--convert").status == 0)
      // A damaged file.
      let program = folder + "/lenet.apus/program.mlir"
      let text = try String(contentsOfFile: program, encoding: .utf8)
      try text.replacingOccurrences(of: "relu", with: "rulu").write(toFile: program, atomically: true, encoding: .utf8)
      let damaged = try run("run", path, "--input", input, "--convert")
      #expect(damaged.status == 1 && damaged.err.contains("SHA-256"))
    }
  }
}
