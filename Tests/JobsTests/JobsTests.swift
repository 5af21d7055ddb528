import Testing
import Jobs

@Test func moduleLoads() {}
