import Testing
import Tokenizer

@Test func moduleLoads() {}
