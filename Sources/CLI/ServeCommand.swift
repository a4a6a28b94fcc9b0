import ApusServables
import ApusServing
import ArgumentParser

struct ServeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Serve models over REST and gRPC: TensorFlow Serving's API and the Open Inference Protocol.")

  @Option(help: "One model: an artifact, NAME.apus.")
  var model: String

  @Option(help: "The model's name; else that of its file.")
  var name: String?

  @Option(help: "The address to listen at; only this machine reaches the default.")
  var host = "127.0.0.1"

  @Option(help: "The port of REST; 0 takes a free one.")
  var httpPort = 8501

  @Option(help: "The port of gRPC; 0 takes a free one.")
  var grpcPort = 8500

  @Option(help: "A file that the addresses are written to when all models are ready.")
  var readyFile: String?

  func run() async throws {
    let repository = ModelRepository()
    var options = ServerOptions()
    (options.host, options.httpPort, options.grpcPort) = (host, httpPort, grpcPort)
    let server = ModelServer(repository, options: options)
    let fileName = model.split(separator: "/").last.map(String.init) ?? model
    let modelName = name ?? String(fileName.split(separator: ".").first ?? "model")
    try await repository.reload([ModelConfiguration(name: modelName, path: model)])
    try await server.run { addresses in
      print("ready http=\(addresses.http ?? "-") grpc=\(addresses.grpc ?? "-")")
      flush()
    }
  }
}
