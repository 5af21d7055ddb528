import Testing
import Agent

@Test func moduleLoads() {}
