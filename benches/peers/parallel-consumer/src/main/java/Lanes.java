import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Handles all messages of each topic in the order of their keys; prints a topic's milliseconds from the first to the last. */
public final class Lanes {
    private static final long LIMIT_SECONDS = 60;

    /** Servers, messages of a topic, slots, topics. */
    public static void main(String[] arguments) throws Exception {
        String servers = arguments[0];
        long messages = Long.parseLong(arguments[1]);
        int slots = Integer.parseInt(arguments[2]);
        for (String topic : List.of(arguments).subList(3, arguments.length)) {
            System.out.println("millis=" + millis(servers, topic, messages, slots));
        }
    }

    private static double millis(String servers, String topic, long messages, int slots) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", servers);
        properties.put("group.id", topic + "-parallel-consumer");
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
        var options = ParallelConsumerOptions.<byte[], byte[]>builder()
                .consumer(new KafkaConsumer<byte[], byte[]>(properties))
                .ordering(ProcessingOrder.KEY)
                .commitMode(CommitMode.PERIODIC_CONSUMER_ASYNCHRONOUS)
                .maxConcurrency(slots)
                .build();
        var first = new AtomicLong();
        var last = new AtomicLong();
        var handled = new AtomicLong();
        var done = new CountDownLatch(1);
        var processor = ParallelStreamProcessor.createEosStreamProcessor(options);
        try {
            processor.subscribe(List.of(topic));
            processor.poll(context -> {
                first.compareAndSet(0, System.nanoTime());
                long millis = context.getSingleConsumerRecord().value()[0];
                if (millis > 0) {
                    try {
                        Thread.sleep(millis);
                    } catch (InterruptedException stopped) {
                        throw new IllegalStateException(stopped);
                    }
                }
                if (handled.incrementAndGet() == messages) {
                    last.set(System.nanoTime());
                    done.countDown();
                }
            });
            if (!done.await(LIMIT_SECONDS, TimeUnit.SECONDS)) {
                throw new IllegalStateException(handled + " of " + messages + " messages were handled");
            }
        } finally {
            processor.closeDontDrainFirst();
        }
        if (handled.get() != messages) {
            throw new IllegalStateException(handled + " messages were handled, there are " + messages);
        }
        return (last.get() - first.get()) / 1e6;
    }
}
