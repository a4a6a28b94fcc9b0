import ApusServables
import ApusServing
import ArgumentParser

struct ServeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Serve models over REST and gRPC: TensorFlow Serving's API and the Open Inference Protocol.")

  func run() async throws { _ = ModelServer(ModelRepository()) }
}
