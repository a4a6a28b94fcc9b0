import ApusBoard
import ArgumentParser

struct BoardCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "board",
    abstract: "Show runs in a browser: curves, histograms, pictures, texts, hyper-parameters.",
    discussion:
      "Reads the TensorBoard event files below a folder, also while they are written: those of SummaryWriter and the TensorBoard "
      + "callback, of PyTorch and of Keras. Each folder with event files is a run. The page needs no network.")

  @Argument(help: "The folder that runs are written to.")
  var runs: String

  @Option(help: "What to listen at. Only this machine reaches the default; whoever reaches another may read all runs.")
  var host = "127.0.0.1"

  @Option(help: "The port; 0 takes one that is free.")
  var port = 6006

  func validate() throws {
    guard (0...65_535).contains(port) else { throw ValidationError("--port \(port) is not within 0...65535.") }
  }

  func run() async throws {
    let board = try BoardServer(folder: runs, host: host, port: port)
    let count = await board.runCount()
    if count == 0 { print("There are no event files below \(runs) yet; runs appear on the page when there are.") }
    try await board.run { url in
      print("\(count == 1 ? "1 run" : "\(count) runs") at \(url) (end with Control-C)")
      flush()
    }
  }
}
