/// The version of this framework, in artifacts, answers of servers and `apus --version`.
package let apusVersion = "0.1.0"
