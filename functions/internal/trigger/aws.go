package trigger

// aws lists what AWS Lambda gets: records of SQS and SNS, what SNS puts into an
// SQS message, and events of EventBridge, whose detail is our data or a whole
// CloudEvent (source: aws-lambda-go events SQSEvent, SNSEvent,
// EventBridgeEvent).
var aws = []envelope{
	{members: []string{"Records"}, open: func(o object, from origin) []parcel {
		return []parcel{content(o, "Records", from.deeper())}
	}},
	{members: []string{"messageId", "receiptHandle", "body"}, open: openSQS},
	{members: []string{"Sns"}, open: func(o object, from origin) []parcel { return openSNS(o.object("Sns"), from) }},
	{members: []string{"Type", "TopicArn", "Message"}, open: openSNS},
	{members: []string{"detail-type", "detail"}, open: openDetail},
}

func openSQS(o object, from origin) []parcel {
	if !from.written && from.item == "" { // a record in a message is its writer's
		from.item = o.text("messageId")
	}
	from = from.at(o.object("attributes").time("SentTimestamp"))
	return message("", "eventSourceARN", "messageId", "", "body")(o, from)
}

func openSNS(o object, from origin) []parcel {
	return message("", "TopicArn", "MessageId", "Timestamp", "Message")(o, from)
}

// openDetail takes the detail-type as the type of data alone.
func openDetail(o object, from origin) []parcel {
	from.eventType = o.text("detail-type")
	return message("", "source", "id", "time", "detail")(o, from)
}
