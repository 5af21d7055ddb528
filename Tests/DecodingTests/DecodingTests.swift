import Testing
import Decoding

@Test func moduleLoads() {}
