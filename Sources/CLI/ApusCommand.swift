import ApusIR
import ArgumentParser

@main
struct ApusCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apus",
    abstract: "Apus: deep learning in Swift.",
    discussion: "Start with `apus quickstart`: it trains a convolutional network on 60,000 real images.",
    version: apusVersion,
    subcommands: [
      Quickstart.self, Train.self, ServeCommand.self, BoardCommand.self, Run.self, Inspect.self, ExportModel.self, Info.self,
      Bench.self, Sweep.self,
    ])
}
