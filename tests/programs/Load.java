// SPDX-License-Identifier: MIT
import java.io.File;
import java.nio.ByteBuffer;
import java.util.*;
import java.util.stream.*;

/** A heap near its limit, garbage, streams in parallel, direct buffers, exceptions. Prints sums, the same in every run. */
public class Load {
	static long deep(int n) {
		return n == 0 ? 0 : 1 + deep(n - 1);
	}

	static long forever(long n) {
		return forever(n + 1) + 1;
	}

	public static void main(String[] args) throws Exception {
		int n = Integer.parseInt(args[0]);
		Map<Integer, String> map = new HashMap<>();
		for (int i = 0; i < n; i++)
			map.put(i * 7919 % 1000003, "value " + i + " of " + n);
		System.gc();
		System.out.println("map " + map.size() + " " + map.entrySet().stream().mapToLong(Object::hashCode).sum());
		long sum = IntStream.range(0, n).parallel().mapToObj(i -> "s" + i).collect(Collectors.toList()).stream()
			.sorted().mapToLong(String::hashCode).sum();
		System.out.println("stream " + sum);
		for (int round = 0; round < 4; round++) {
			List<byte[]> garbage = new ArrayList<>();
			for (int i = 0; i < n / 10; i++)
				garbage.add(new byte[200]);
			System.gc();
		}
		ByteBuffer direct = ByteBuffer.allocateDirect(n * 8);
		for (int i = 0; i < n; i++)
			direct.putLong(i * 8, i * 31L);
		long total = 0;
		for (int i = 0; i < n; i += 97)
			total += direct.getLong(i * 8);
		System.out.println("direct " + total);
		Thread[] threads = new Thread[4];
		long[] sums = new long[4];
		for (int t = 0; t < 4; t++) {
			int id = t;
			threads[t] = new Thread(() -> {
				TreeMap<String, Integer> tree = new TreeMap<>();
				for (int i = 0; i < n / 8; i++)
					tree.put("k" + (i * 104729 % 65537), i);
				synchronized (map) {
					sums[id] = tree.size() + map.size();
				}
			});
			threads[t].start();
		}
		for (Thread t : threads)
			t.join();
		System.out.println("threads " + Arrays.toString(sums));
		try {
			Object nothing = args.length > 5 ? "" : null;
			System.out.println(nothing.hashCode());
		} catch (NullPointerException e) {
			System.out.println("null pointer");
		}
		try {
			forever(0);
		} catch (StackOverflowError e) {
			System.out.println("stack overflow");
		}
		try {
			List<long[]> all = new ArrayList<>();
			while (true)
				all.add(new long[1 << 17]);
		} catch (OutOfMemoryError e) {
			System.out.println("out of memory");
		}
		System.out.println("deep " + deep(1000));
		Process p = new ProcessBuilder("expr", "6", "*", "7").redirectOutput(ProcessBuilder.Redirect.PIPE).start();
		System.out.println("child " + new String(p.getInputStream().readAllBytes()).trim() + " " + p.waitFor());
	}
}
